"""Names that the documents import, or once did: models are bound to task files as they were written then."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ONCE = {
    "bertune.conformance": "CHECKS Case",
    "bertune.errors": "InputError Interrupted",
    "bertune.serving": "app",
    "bertune.sklearn": "BertuneClassifier",
    "bertune.tasks.base": "BaseTask",
    "bertune.tasks.heads": "pooled_head token_head",
    "bertune.tasks.layers": "LayerMix layers_option",
    "bertune.tasks.losses": "FocusOptions LossOptions binary_cross_entropy class_weights cross_entropy",
    "bertune.tasks.options": "TextColumns long_text_option",
    "bertune.tasks.parts": "ExampleParts",
    "bertune.tasks.row_metrics": "RowMetrics",
    "bertune.tasks.shared.class_weights": "class_weights",
    "bertune.tasks.shared.heads": "pooled_head token_head",
    "bertune.tasks.shared.layers": "LayerMix",
    "bertune.tasks.shared.losses": "binary_cross_entropy cross_entropy",
    "bertune.tasks.shared.texts": "by_example text_features",
    "bertune.tasks.text_classification": "TextColumns TextExample TextOptions read_table",
    "bertune.tasks.texts": "by_example long_text_option text_features",
}
"""What docs/new-task.md and its text on options ever imported or named, from the history of docs/."""


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in ONCE for name in ONCE[module].split()])
def test_names_stay_where_the_documents_once_imported_them_from(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


def test_the_documents_of_now_import_names_that_are_listed() -> None:
    """So that a name which moves later is missed then."""
    texts = [path.read_text(encoding="utf-8") for path in [*ROOT.glob("docs/*.md"), *ROOT.glob("README*.md")]]
    imports = [found for text in texts for found in re.findall(r"^from (bertune[.\w]*) import ([\w, ]+)", text, re.M)]
    shown = {(module, name) for module, names in imports for name in names.replace(" ", "").split(",")}
    assert shown
    assert shown <= {(module, name) for module, names in ONCE.items() for name in names.split()}
