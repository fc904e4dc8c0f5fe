"""CLUENER's rows: `{"text", "label": {"name": {"叶老桂": [[9, 11]]}}}`, where an end is the last character's place."""

from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format
from bertune.errors import InputError


def _is_row(first: Mapping[str, object]) -> bool:
    label = first.get("label")
    return (
        isinstance(first.get("text"), str)
        and isinstance(label, dict)
        and all(isinstance(spans, dict) for spans in label.values())
    )


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:
    text, label = row.get("text"), row.get("label")
    entities: list[object] = []
    if labelled and isinstance(label, dict):
        for name, spans in label.items():
            for surface, places in spans.items() if isinstance(spans, dict) else ():
                entities.extend(_entity(str(text), str(name), surface, place) for place in places)
    yield {"text": text, "entities": entities}


def _entity(text: str, name: str, surface: str, place: object) -> list[object]:
    if not isinstance(place, list) or len(place) != 2 or not all(isinstance(one, int) for one in place):
        raise InputError(f"entity {surface!r}: {place!r} is not [first, last]")
    first, last = place
    if text[first : last + 1] != surface:
        raise InputError(f"entity {surface!r} is not at {first} to {last} of {text[:40]!r}, ends included")
    return [first, last + 1, name]


FORMAT = Format("CLUENER's rows", "tags", "CLUENER2020", is_row=_is_row, convert=_convert, columns=("text", "entities"))
