"""PIQA's rows: `{"goal", "sol1", "sol2"}`, the labels in `train-labels.lst` beside `train.jsonl`, or as `label`."""

from collections.abc import Iterator

from bertune.data.formats.format import Format, Sample, single
from bertune.data.formats.label_files import labels_of
from bertune.data.rows import Row
from bertune.data.tables import Rows, open_table


def _is_file(sample: Sample) -> bool:
    return isinstance(sample.first, dict) and {"goal", "sol1", "sol2"} <= set(sample.first)


def _open(sample: Sample) -> Rows:
    return single(FORMAT, sample, lambda: _rows(sample))


def _rows(sample: Sample) -> Iterator[Row]:
    for row, beside in zip(open_table(sample.path, sample.table), labels_of(sample), strict=False):
        values = row.values
        answer = values.get("label") if beside is None else beside
        choices = [values.get("sol1"), values.get("sol2")]
        answer = int(answer) if isinstance(answer, str) and answer.isdecimal() else answer
        yield Row(row.line, {"question": values.get("goal"), "choices": choices, "answer": answer})


FORMAT = Format(
    "PIQA's rows", "choices", "PIQA", is_file=_is_file, open=_open, columns=("question", "choices", "answer")
)
