"""C3's and DREAM's files: an array of `[["a line", …], [{"question", "choice": […], "answer": "text"}, …], "id"]`."""

from collections.abc import Iterator

from bertune.data import json_rows
from bertune.data.formats.format import Format, Sample, single
from bertune.data.rows import Row
from bertune.data.tables import Rows
from bertune.errors import Problems


def _is_item(item: object) -> bool:
    if not isinstance(item, list) or len(item) < 2 or not all(isinstance(part, list) for part in item[:2]):
        return False
    return all(isinstance(one, dict) and "question" in one and "choice" in one for one in item[1]) and bool(item[1])


def _is_file(sample: Sample) -> bool:
    return _is_item(sample.first)


def _open(sample: Sample) -> Rows:
    return single(FORMAT, sample, lambda: _rows(sample))


def _rows(sample: Sample) -> Iterator[Row]:
    problems = Problems()
    for line, item in json_rows.items(sample.path, sample.gzipped, sample.encoding):
        if not isinstance(item, list) or not _is_item(item):
            problems.add(f"{sample.path}, line {line}: expected [[lines], [questions], id], found {str(item)[:60]}")
            continue
        context = "\n".join(map(str, item[0]))
        for question in item[1] if not problems else ():
            yield Row(
                line,
                {
                    "context": context,
                    "question": question["question"],
                    "choices": question["choice"],
                    "answer": question.get("answer"),
                },
            )
    problems.raise_if_any()


FORMAT = Format(
    "C3's dialogues and questions", "choices", "C3 (CLUE), DREAM",
    is_file=_is_file, open=_open, columns=("context", "question", "choices", "answer"),
)  # fmt: skip
