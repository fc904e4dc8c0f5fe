"""The spaCy component: classes, entities, streams, pipelines on disk, models that do not fit."""

import importlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

import bertune
import bertune.spacy
from bertune.errors import InputError
from tests.tiny import opinions, write_encoder

CPU = {"device": "cpu", "precision": "fp32"}
SMALL: dict[str, Any] = {"max_seq_length": 32, "batch_size": 8, "learning_rate": 1e-2, "epochs": 10, **CPU}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, a classifier of opinions, and a tagger of the words good and bad."""
    root = tmp_path_factory.mktemp("models")
    encoder = write_encoder(root / "encoder")
    rows = opinions(96)
    bertune.train(task="text-classification", encoder=encoder, train=rows, output=root / "opinions", **SMALL)
    tagged = []
    for row in rows:
        tokens = str(row["text"]).split()
        tags = ["B-OPINION" if word in ("good", "fine", "bad", "awful") else "O" for word in tokens]
        tagged.append({"tokens": tokens, "tags": tags})
    bertune.train(task="token-classification", encoder=encoder, train=tagged, output=root / "entities", **SMALL)
    return root


def pipeline(folder: Path, **more: Any) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("bertune", config={"model": str(folder), **CPU, **more})
    return nlp


def test_classes_are_categories(folder: Path) -> None:
    nlp = pipeline(folder / "opinions")
    texts = ["the film is good", "the film is awful", "   "]
    docs: list[Doc] = list(nlp.pipe(texts, batch_size=2))
    expected = bertune.load(folder / "opinions", **CPU).predict(texts[:2])
    assert [doc._.bertune for doc in docs] == [*expected, None]
    assert [doc.cats for doc in docs] == [*(one["scores"] for one in expected), {}]
    assert docs[0].cats["good"] > 0.5 > docs[1].cats["good"]


def test_entities_are_spans(folder: Path) -> None:
    docs = list(pipeline(folder / "entities").pipe(["the film is fine", "the the the film is good xx"]))
    assert [[(span.text, span.label_) for span in doc.ents] for doc in docs] == [
        [("fine", "OPINION")],
        [("good", "OPINION")],
    ]
    (entity,) = docs[1]._.bertune["entities"]
    assert (docs[1].ents[0].start_char, docs[1].ents[0].end_char) == (entity["start"], entity["end"])


def test_entities_of_other_components_stay(folder: Path) -> None:
    nlp = pipeline(folder / "entities")
    ruler: Any = nlp.add_pipe("entity_ruler", before="bertune")
    ruler.add_patterns([{"label": "THING", "pattern": "film"}])
    doc = nlp("the film is fine")
    assert [(span.text, span.label_) for span in doc.ents] == [("film", "THING"), ("fine", "OPINION")]


def test_a_pipeline_comes_back_from_disk(folder: Path, tmp_path: Path) -> None:
    nlp = pipeline(folder / "opinions")
    nlp.to_disk(tmp_path / "pipeline")
    assert [path for path in (tmp_path / "pipeline/bertune").iterdir() if path.is_dir()] == []  # checkpoints, logs
    read = spacy.load(tmp_path / "pipeline")
    assert read("the film is good").cats == nlp("the film is good").cats


def test_models_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no bertune model"):
        pipeline(tmp_path)
    with pytest.raises(InputError, match="has no model"):
        spacy.blank("en").add_pipe("bertune")(Doc(spacy.blank("en").vocab, ["film"]))
    rows = [{"context": "good film", "question": "which", "choices": ["good", "bad"], "answer": 0}] * 8
    options = {"encoder": folder / "encoder", "train": rows, "output": tmp_path / "choices", "validation_share": 0}
    bertune.train(task="multiple-choice", **options, **SMALL | {"epochs": 1})
    with pytest.raises(InputError, match="is a model for multiple-choice"):
        pipeline(tmp_path / "choices")


def test_spacy_finds_the_component_by_its_entry_point() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["entry-points"]["spacy_factories"]["bertune"].partition(":")
    assert getattr(importlib.import_module(module), name) is bertune.spacy.new_component
