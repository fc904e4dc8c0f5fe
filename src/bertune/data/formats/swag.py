"""SWAG's full file: `gold-ending` beside `distractor-0`, `distractor-1`, ….

The plain one has `ending0` to `ending3` and is an ordinary table.
"""

import re
import zlib
from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format
from bertune.errors import InputError

_DISTRACTOR = re.compile(r"distractor-\d+$")


def _is_row(first: Mapping[str, object]) -> bool:
    return "gold-ending" in first and any(_DISTRACTOR.match(name) for name in first)


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:
    wrong = [str(value) for name, value in sorted(row.items()) if _DISTRACTOR.match(name) and value]
    right = row.get("gold-ending")
    if not isinstance(right, str) or not wrong:
        raise InputError("expected a gold-ending and distractors")
    context, question = str(row.get("sent1") or row.get("startphrase") or ""), str(row.get("sent2") or "")
    # The right ending takes a place that its text decides, so that no place is right more often.
    place = zlib.crc32(f"{context}|{right}".encode()) % (len(wrong) + 1)
    yield {
        "context": context,
        "question": question,
        "choices": [*wrong[:place], right, *wrong[place:]],
        "answer": place if labelled else None,
    }


FORMAT = Format(
    "SWAG's full rows", "choices", "SWAG (train_full.csv, val_full.csv; train.csv and val.csv are plain tables)",
    is_row=_is_row, convert=_convert, columns=("context", "question", "choices", "answer"),
)  # fmt: skip
