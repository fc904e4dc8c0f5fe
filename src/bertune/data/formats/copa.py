"""COPA: a premise, two choices, and whether its cause or its effect is asked for.

As SuperGLUE's JSON lines, XCOPA, or COPA's own XML.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format, Sample, single
from bertune.data.rows import Row
from bertune.data.tables import Rows
from bertune.errors import InputError
from bertune.files.text_files import small_file

QUESTIONS = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}
"""The questions of COPA's own instructions."""


def _is_row(first: Mapping[str, object]) -> bool:
    return {"premise", "choice1", "choice2"} <= set(first) and str(first.get("question")) in QUESTIONS


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:
    asked = str(row.get("question"))
    if asked not in QUESTIONS:
        raise InputError(f"the question is {asked!r}; expected cause or effect")
    yield {
        "context": row.get("premise"),
        "question": QUESTIONS[asked],
        "choices": [row.get("choice1"), row.get("choice2")],
        "answer": row.get("label") if labelled else None,
    }


def _is_file(sample: Sample) -> bool:
    return sample.suffix == ".xml" and "<copa-corpus" in sample.head[:2000]


def _open(sample: Sample) -> Rows:
    return single(FORMAT, sample, lambda: _rows(sample))


def _rows(sample: Sample) -> Iterator[Row]:
    data = small_file(sample.path)
    if b"<!ENTITY" in data:
        raise InputError(f"{sample.path}: defines entities, which COPA's files do not; refused")
    try:
        items = ET.fromstring(data).findall("item")
    except ET.ParseError as error:
        raise InputError(f"{sample.path}: not XML: {error}") from None
    for number, item in enumerate(items, 1):
        right = item.get("most-plausible-alternative")
        yield Row(
            number,
            {
                "context": item.findtext("p"),
                "question": QUESTIONS.get(str(item.get("asks-for")), ""),
                "choices": [item.findtext("a1"), item.findtext("a2")],
                "answer": None if right is None else int(right) - 1,
            },
        )


FORMAT = Format(
    "COPA", "choices", "COPA (SuperGLUE and the original XML), XCOPA",
    is_file=_is_file, open=_open, is_row=_is_row, convert=_convert,
    columns=("context", "question", "choices", "answer"),
)  # fmt: skip
