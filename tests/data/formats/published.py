"""What a data set in small is, and how its text is written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """A data set in small.

    task: to train.
    files: text by name; those of a folder by their paths.
    rows: to learn from, windows and left-out rows not counted.
    train: what `--train` names, from the files' folder; empty: the first file.
    options: further ones.
    """

    task: str
    files: Mapping[str, str]
    rows: int
    train: Sequence[str] = ()
    options: Sequence[str] = field(default=())


def lines(*rows: object) -> str:
    """JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def whole(value: object) -> str:
    """One JSON value, indented as many publish it."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def columns(*rows: str) -> str:
    """Lines of tab-separated columns, written with spaces between; a blank one ends a sentence."""
    return "".join("\t".join(row.split()) + "\n" for row in rows)


TEXT, TAGS, CHOICES, QUESTIONS = (
    "text-classification", "token-classification", "multiple-choice", "question-answering",
)  # fmt: skip
SNLI = {"annotator_labels": ["neutral"], "captionID": "1.jpg#4", "pairID": "1.jpg#4r1n", "sentence1_parse": "(ROOT)"}
TOKENS = [
    {"text": "EU", "start": 0, "end": 2, "id": 0, "ws": True},
    {"text": "said", "start": 3, "end": 7, "id": 1, "ws": False},
]
SPAN = {"start": 0, "end": 2, "token_start": 0, "token_end": 0, "label": "ORG"}
HASHES = {"_input_hash": -1, "_task_hash": 2, "_session_id": None, "_view_id": "ner_manual", "_timestamp": 1700000000}
STUDIO = {"was_cancelled": False, "ground_truth": False, "lead_time": 1.5, "completed_by": 1, "id": 7}
LETTERS = [{"text": "the sun", "label": "A"}, {"text": "a stone", "label": "B"}]
SQUAD_PARAGRAPH = {
    "context": "Ann met Bo in Rome.",
    "qas": [{"id": "1", "question": "Whom?", "answers": [{"text": "Bo", "answer_start": 8}]}],
}
CHINESE = "梵語在社交中口頭使用，並且在早期古典梵語文獻的發展中維持口頭傳統。"


def studio(result: Sequence[object], text: str, **more: object) -> dict[str, object]:
    """A task of Label Studio's JSON export."""
    return {"id": 1, "annotations": [{**STUDIO, "result": list(result)}], "data": {"text": text}, **more}


def chosen(label: str) -> dict[str, object]:
    """A choice as Label Studio exports it."""
    return {"value": {"choices": [label]}, "from_name": "s", "to_name": "text", "type": "choices", "origin": "manual"}


def marked(start: int, end: int, text: str, label: str) -> dict[str, object]:
    """A span likewise."""
    value = {"start": start, "end": end, "text": text, "labels": [label]}
    return {"value": value, "id": "a", "from_name": "label", "to_name": "text", "type": "labels"}
