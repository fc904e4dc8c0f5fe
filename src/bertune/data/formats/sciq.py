"""SciQ's rows: `{"question", "correct_answer", "distractor1", "distractor2", "distractor3", "support"}`."""

import re
import zlib
from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format

_DISTRACTOR = re.compile(r"distractor_?\d+$")


def _is_row(first: Mapping[str, object]) -> bool:
    return {"question", "correct_answer"} <= set(first) and any(_DISTRACTOR.match(name) for name in first)


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:
    wrong = [value for name, value in sorted(row.items()) if _DISTRACTOR.match(name)]
    right = row.get("correct_answer")
    # The right answer takes a place that its text decides, so that no place is right more often.
    place = zlib.crc32(f"{row.get('question')}|{right}".encode()) % (len(wrong) + 1)
    yield {
        "context": row.get("support") or "",
        "question": row.get("question"),
        "choices": [*wrong[:place], right, *wrong[place:]],
        "answer": place if labelled else None,
    }


FORMAT = Format(
    "SciQ's rows", "choices", "SciQ",
    is_row=_is_row, convert=_convert, columns=("context", "question", "choices", "answer"),
)  # fmt: skip
