"""Entities by character offsets, as annotation tools write them.

Forms of a record:

* spaCy: `{"text", "entities": [[start, end, label], …]}`, `["text", {"entities": […]}]`;
  its Doc.to_json and Prodigy: `{"text", "ents" or "spans": [{"start", "end", "label"}, …]}`.
* Doccano: `{"text", "label" or "labels": [[start, end, label], …]}`,
  `{"text", "entities": [{"start_offset", "end_offset", "label"}, …]}`.
* Label Studio: `{"data": {"text"}, "annotations": [{"result": [{"value": {"start", "end", "labels": […]}}, …]}]}`
  and its JSON-MIN: `{"text", "label": [{"start", "end", "text", "labels": […]}, …]}`.

Offsets count code points; ends are exclusive.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from bertune.errors import InputError
from bertune.tasks.shared.words import words_of
from bertune.tasks.tagging.examples import Entity, TaggedExample

KEYS = ("entities", "ents", "spans", "label", "labels")
"""Where a record's entities may stand, best first."""


def from_record(
    record: object, text_key: str, entities_key: str | None, *, labelled: bool, place: int
) -> TaggedExample:
    """An example from one annotated record of any of the forms.

    Offsets are as the record has them; `offsets.in_characters` decides their unit and takes spaces off the edges.

    Raises:
        InputError: no text, no entities, offsets outside the text, entities that overlap: all of a record's at once.
    """
    text, entities = _parts(record, text_key, entities_key)
    if not isinstance(text, str):
        raise InputError(f"no text under {text_key!r} (--text-column)")
    if not labelled:
        return TaggedExample(text, words_of(text), (), place)
    if entities is None:
        known = ", ".join(map(repr, KEYS))
        raise InputError(f"no entities under {repr(entities_key) if entities_key else known} (--entities-column)")
    if not isinstance(entities, list):
        raise InputError(f"the entities are {entities!r}; a list of [start, end, label] is expected")
    problems: list[str] = []
    found: list[Entity] = []
    for item in entities:
        try:
            found.extend(_entity(item, text))
        except InputError as error:
            problems.append(str(error))
    found = sorted(set(found), key=lambda one: (one.start, one.end))
    for one, two in itertools.pairwise(found):
        if two.start < one.end:
            problems.append(f"entities overlap: {_shown(one, text)} and {_shown(two, text)}; a word has one tag only")
    if problems:
        raise InputError("; ".join(problems))
    return TaggedExample(text, words_of(text), tuple(found), place)


def lacks_text_or_entities(record: object, text_key: str, entities_key: str | None) -> bool:
    """Whether a record has no text, or nobody marked its entities; an empty list of entities is a mark of none."""
    text, entities = _parts(record, text_key, entities_key)
    return entities is None or text is None or (isinstance(text, str) and not text.strip())


def _parts(record: object, text_key: str, entities_key: str | None) -> tuple[object, object]:
    """Text and entities of a record; None each where there are none."""
    if isinstance(record, list | tuple) and len(record) == 2 and isinstance(record[1], Mapping):
        return record[0], record[1].get(entities_key or "entities")
    if not isinstance(record, Mapping):
        return None, None
    data = record.get("data")
    if isinstance(data, Mapping):
        return data.get(text_key), _label_studio(record)
    keys = [entities_key] if entities_key is not None else KEYS
    return record.get(text_key), next((record[key] for key in keys if record.get(key) is not None), None)


def _label_studio(record: Mapping[Any, Any]) -> object:
    """The values of the first annotation that was not cancelled; older exports say `completions`."""
    done = record.get("annotations", record.get("completions"))
    kept = [one for one in done or () if isinstance(one, Mapping) and not one.get("was_cancelled")]
    if not kept:
        return None
    results = [one for one in kept[0].get("result") or () if isinstance(one, Mapping)]
    values = [one.get("value") for one in results]
    return [value for value in values if isinstance(value, Mapping) and "start" in value]


def _entity(item: object, text: str) -> list[Entity]:
    """One entity, or one for each of its labels."""
    start: object
    end: object
    labels: object
    if isinstance(item, list | tuple) and len(item) == 3:
        start, end, labels = item
    elif isinstance(item, Mapping):
        start, end = item.get("start", item.get("start_offset")), item.get("end", item.get("end_offset"))
        labels = item.get("labels", item.get("label"))
    else:
        raise InputError(f"entity {item!r}: expected [start, end, label]")
    names = labels if isinstance(labels, list) else [labels]
    if not all(isinstance(name, str) and name.strip() for name in names) or len(names) != 1:
        raise InputError(f"entity {item!r}: needs one label, a text")
    if type(start) is not int or type(end) is not int:
        raise InputError(f"entity {item!r}: start and end must be whole numbers, counted in characters from 0")
    if not 0 <= start < end <= len(text):
        raise InputError(f"entity {item!r}: is outside the text, which has characters 0 to {len(text)}")
    quoted = item.get("text") if isinstance(item, Mapping) else None
    if isinstance(quoted, str) and quoted != text[start:end]:
        raise InputError(f"entity {item!r}: the text has {text[start:end]!r} there")
    if not text[start:end].strip():
        raise InputError(f"entity {item!r}: holds spaces only")
    return [Entity(str(names[0]).strip(), start, end)]


def _shown(entity: Entity, text: str) -> str:
    return f"{entity.label} {text[entity.start : entity.end]!r} ({entity.start} to {entity.end})"
