"""Social IQa and CosmosQA: `{"context", "question", "answerA", "answerB", "answerC"}`, or answer0 to answer3.

Social IQa's labels count from 1 and lie in `train-labels.lst` beside `train.jsonl`; CosmosQA's count from 0.
"""

from collections.abc import Iterator

from bertune.data.formats.format import Format, Sample, single
from bertune.data.formats.label_files import labels_of
from bertune.data.rows import Row
from bertune.data.tables import Rows, open_table
from bertune.errors import Problems

_SOCIAL = ("answerA", "answerB", "answerC")
_COSMOS = ("answer0", "answer1", "answer2", "answer3")


def _columns(names: "set[str]") -> tuple[str, ...]:
    return next((columns for columns in (_SOCIAL, _COSMOS) if set(columns) <= names), ())


def _is_file(sample: Sample) -> bool:
    if isinstance(sample.first, dict):
        return bool(_columns(set(sample.first)))
    header = sample.lines[0].replace('"', "").split(",") if sample.lines else []
    return bool(_columns(set(header)))


def _open(sample: Sample) -> Rows:
    return single(FORMAT, sample, lambda: _rows(sample))


def _rows(sample: Sample) -> Iterator[Row]:
    file, problems = open_table(sample.path, sample.table), Problems()
    columns = _columns(set(file.columns))
    first = 1 if columns == _SOCIAL else 0
    for row, beside in zip(file, labels_of(sample), strict=False):
        values = row.values
        text = str(values.get("label", values.get("correct", "")) if beside is None else beside).strip()
        answer: int | None = None
        if text:
            answer = int(text) - first if text.isdecimal() else "ABC".find(text.upper())
            if not 0 <= answer < len(columns):
                last = first + len(columns) - 1
                problems.add(f"{file.where(row)}: the label is {text!r}; expected {first} to {last}")
        choices = [values.get(name) for name in columns]
        if not problems:
            context, question = values.get("context"), values.get("question")
            yield Row(row.line, {"context": context, "question": question, "choices": choices, "answer": answer})
    problems.raise_if_any()


FORMAT = Format(
    "Social IQa's or CosmosQA's rows", "choices", "Social IQa, CosmosQA",
    is_file=_is_file, open=_open, columns=("context", "question", "choices", "answer"),
)  # fmt: skip
