"""A bertune model as a component of a spaCy pipeline: `nlp.add_pipe("bertune", config={"model": "out/intents"})`.

Probabilities of classes go to `doc.cats`, entities to `doc.ents`; `doc._.bertune` has the whole prediction as
`bertune predict` writes it. spaCy finds the component by its entry point; in a program that runs from a source tree,
`import bertune.spacy` registers it.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import filter_spans

from bertune.errors import InputError
from bertune.model.pack import model_files
from bertune.model.use import Model, load
from bertune.tasks.protocol import Prediction

TASKS = ("text-classification", "multi-label-classification", "token-classification", "regression", "embedding")
"""Tasks whose input is one text."""


class BertuneComponent:
    """Answers documents with a fine-tuned model.

    Attributes:
        model: the `bertune.Model`; None until a pipeline is read from disk.
    """

    def __init__(self, folder: str | Path | None, *, device: str = "auto", precision: str = "auto") -> None:
        """Load a model.

        Args:
            folder: of the model; None: it comes with `from_disk`.
            device: auto, cpu, cuda or mps.
            precision: auto, bf16, fp16, fp32 or int8.

        Raises:
            InputError: no model there, or one whose task does not take single texts.
        """
        self.device, self.precision = device, precision
        self.folder: Path | None = None
        self.model: Model | None = None
        if folder is not None:
            self._open(Path(folder))
        if not Doc.has_extension("bertune"):
            Doc.set_extension("bertune", default=None)

    def __call__(self, doc: Doc) -> Doc:
        """Answer one document."""
        self._answer([doc])
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 256) -> Iterator[Doc]:
        """Answer a stream of documents, `batch_size` of them together."""
        docs = iter(stream)
        while chunk := list(islice(docs, batch_size)):
            self._answer(chunk)
            yield from chunk

    def to_disk(self, path: str | Path, *, exclude: Sequence[str] = ()) -> None:  # noqa: ARG002 (spaCy's signature)
        """Copy the model, without checkpoints and curves, to where spaCy keeps the pipeline."""
        if self.folder is not None:
            for source in model_files(self.folder):
                target = Path(path, source.relative_to(self.folder))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def from_disk(self, path: str | Path, *, exclude: Sequence[str] = ()) -> "BertuneComponent":  # noqa: ARG002
        """Load the model that `to_disk` copied."""
        self._open(Path(path))
        return self

    def _open(self, folder: Path) -> None:
        model = load(folder, device=self.device, precision=self.precision)
        if model.task.name not in TASKS:
            raise InputError(
                f"spaCy: {folder} is a model for {model.task.name}; the component takes models that answer one text: "
                f"{', '.join(TASKS)}"
            )
        self.folder, self.model = folder, model

    def _answer(self, docs: Sequence[Doc]) -> None:
        if self.model is None:
            raise InputError('spaCy: the component has no model; give one: config={"model": "FOLDER"}')
        with_text = [doc for doc in docs if doc.text.strip()]
        predictions = self.model.predict([doc.text for doc in with_text])
        for doc, prediction in zip(with_text, predictions, strict=True):
            _write(doc, prediction)


def new_component(nlp: Language, name: str, model: str | None, device: str, precision: str) -> BertuneComponent:  # noqa: ARG001
    """What `nlp.add_pipe("bertune", config={"model": FOLDER})` makes."""
    return BertuneComponent(model, device=device, precision=precision)


Language.factory("bertune", default_config={"model": None, "device": "auto", "precision": "auto"}, func=new_component)


def _write(doc: Doc, prediction: Prediction) -> None:
    """Put a prediction where spaCy's users look for it."""
    doc._.bertune = prediction
    scores = prediction.get("scores")
    if isinstance(scores, dict):
        doc.cats.update(scores)
    entities: list[dict[str, Any]] = prediction.get("entities", [])
    spans = [
        doc.char_span(entity["start"], entity["end"], label=entity["label"], alignment_mode="expand")
        for entity in entities
    ]
    if spans:
        doc.ents = tuple(filter_spans([*doc.ents, *(span for span in spans if span is not None)]))
