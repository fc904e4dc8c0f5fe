"""A sentence and its tags as two texts of equally many words: `EU rejects German lamb`, `B-ORG O B-MISC O`."""

import re
from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format
from bertune.errors import InputError

_TOKENS = ("tokens", "words", "sentence", "text", "sent")
_TAGS = ("tags", "ner_tags", "labels", "label", "ner", "bio_tags", "tag")
_TAG = re.compile(r"(O|[BIESLUM][-_].+|.+[-_][BIESLUM])$")


def _names(row: Mapping[str, object]) -> tuple[str, str] | None:
    one = next((name for name in _TOKENS if isinstance(row.get(name), str)), None)
    two = next((name for name in _TAGS if isinstance(row.get(name), str)), None)
    return None if one is None or two is None else (one, two)


def _is_row(first: Mapping[str, object]) -> bool:
    names = _names(first)
    if names is None:
        return False
    words, tags = (_split(first[name]) for name in names)
    return bool(tags) and len(words) == len(tags) and all(_TAG.match(tag) for tag in tags)


def _split(value: object) -> list[str]:
    """Words of a text, or of a list that was written into a cell (`['EU', 'rejects']`)."""
    text = str(value).strip()
    if text.startswith("[") and text.endswith("]"):
        quoted = re.findall(r"'([^']*)'|\"([^\"]*)\"", text)
        return [one or two for one, two in quoted]
    return text.split()


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:
    names = _names(row)
    if names is None:
        raise InputError("expected a text and its tags, divided by spaces")
    words = _split(row[names[0]])
    yield {"tokens": words, "tags": _split(row[names[1]]) if labelled else []}


FORMAT = Format(
    "texts with their tags as texts", "tags", "tables with a column of words and one of tags, divided by spaces",
    is_row=_is_row, convert=_convert, columns=("tokens", "tags"),
)  # fmt: skip
