"""What an item of a task looks like: its fields, found by asking the task itself, so that user tasks have them too."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bertune.errors import InputError


@dataclass(frozen=True)
class ItemForm:
    """fields: names of an item's columns; one field: the item may be that string alone.

    optional: fields that may be left out.  sample: an item that the task takes.
    """

    kind: str
    fields: tuple[str, ...]
    optional: tuple[str, ...]
    sample: Any


_FORMS = (
    ItemForm("text", ("text", "pair"), ("pair",), "A text to try the model on."),
    ItemForm("text", ("text",), (), {"text": "A text to try the model on."}),
    ItemForm("pair", ("text", "pair"), (), ["A first text.", "A second text."]),
    ItemForm("pair", ("text", "pair"), (), {"text": "A first text.", "pair": "A second text."}),
    ItemForm(
        "question",
        ("question", "context"),
        (),
        {"question": "Who wrote the letter?", "context": "The letter was written by Anna in May."},
    ),
    ItemForm(
        "choices",
        ("context", "question", "choices"),
        ("question",),
        {"context": "She opened the door and", "choices": ["went in.", "drank the wall."]},
    ),
    ItemForm("mask", ("text",), (), "The capital of France is [MASK]."),
    ItemForm("tokens", ("tokens",), (), ["Anna", "lives", "in", "Rome", "."]),
)


def form_of(example: Callable[[Any], Any]) -> ItemForm | None:
    """The first of the known forms that a model takes; None: it takes none of them.

    example: makes an item an example, or raises.
    """
    for form in _FORMS:
        try:
            example(form.sample)
        except InputError:
            continue
        except Exception:  # a user's task may raise anything on what it does not know
            continue
        if form.kind == "text" and len(form.fields) == 2 and not _takes_pairs(example):
            return ItemForm("text", ("text",), (), form.sample)
        return form
    return None


def _takes_pairs(example: Callable[[Any], Any]) -> bool:
    try:
        pair = example(["A first text.", "A second text."])
    except Exception:
        return False
    return getattr(pair, "pair", None) is not None


def form_to_json(form: ItemForm | None) -> Mapping[str, Any] | None:
    """For the description of a model."""
    if form is None:
        return None
    return {"kind": form.kind, "fields": list(form.fields), "optional": list(form.optional), "sample": form.sample}
