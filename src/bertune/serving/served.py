"""The models of a service by name: loaded, described, replaced without losing a request."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertune.errors import InputError
from bertune.files.json_files import read_json
from bertune.model.predicting import Predictor, label_names
from bertune.serving.answer_rules import AnswerRules, rules_in_use
from bertune.serving.batcher import Batcher, Ticket
from bertune.serving.compute_turns import release_openmp_threads
from bertune.serving.engine import Engine
from bertune.serving.errors import RequestError
from bertune.serving.forms import ItemForm, form_of, form_to_json
from bertune.serving.options import ServeLimits

logger = logging.getLogger(__name__)

CANARY_SECONDS = 60.0
"""How long a canary may take before the model counts as stuck."""
Observe = Callable[[str, str, float], None]
"""Receives measurements: model, name, value."""


Loader = Callable[[Path], Predictor]
"""Loads a model from its folder."""


@dataclass(frozen=True)
class Loading:
    """Loads models with `bertune.load` and these options."""

    precision: str = "auto"
    device: str = "auto"
    trust_task_file: str | None = None

    def __call__(self, folder: Path) -> Predictor:
        """The model of a folder."""
        from bertune.model.use import load

        model = load(folder, **vars(self))
        model.keeps_checking = True  # the first call is the canary's, of a single item
        return model


@dataclass(eq=False)
class ServedModel:
    """One version of a model, ready to answer. form: what its items look like, where it is a known form."""

    name: str
    folder: Path | None
    engine: Engine
    batcher: Batcher
    version: str
    form: ItemForm | None
    metrics: Mapping[str, Any]
    loaded: float = field(default_factory=time.time)

    @property
    def model(self) -> Predictor:
        """The model itself."""
        return self.engine.model

    @property
    def labels(self) -> list[str]:
        """The model's labels, in the order of its logits."""
        return list(label_names(self.model.task))

    def describe(self) -> dict[str, Any]:
        """What people and programs ask of a model: task, labels, metrics, limits."""
        return {
            "name": self.name,
            "version": self.version,
            "task": self.model.task.name,
            "labels": self.labels,
            "metrics": dict(self.metrics),
            "review": rules_in_use(self.model),
            "limits": {
                "max_seq_length": self.model.max_seq_length,
                "long_text": getattr(self.model.task.options, "long_text", "truncate"),
                "max_batch_tokens": self.batcher.max_batch_tokens,
                "max_queue_tokens": self.batcher.max_queue_tokens,
            },
            "input": form_to_json(self.form),
        }

    def canary(self, seconds: float = CANARY_SECONDS) -> str | None:
        """Answer a row of the model's form through its queue. Returns what is wrong, or None."""
        if not self.batcher.alive:
            return "a thread of the batcher has ended"
        if self.form is None:
            return None
        answered = threading.Event()
        ticket = Ticket([self.form.sample], [self.engine.estimate(self.form.sample)], answered.set)
        try:
            self.batcher.submit(ticket)
        except RequestError as error:
            return None if error.status == 429 else str(error)  # a full queue is busy, not broken
        if not answered.wait(seconds):
            self.batcher.cancel(ticket)
            return f"no answer to a sample item within {seconds:g} s"
        if ticket.error is not None:
            return str(ticket.error)
        answer = ticket.answers[0] or {}
        return str(answer["error"]) if "error_type" in answer else None


class Models:
    """All models of a service. The first is the default one, which the aliases of other protocols answer from."""

    def __init__(
        self, limits: ServeLimits, loading: Loader, observe: Observe, rules: AnswerRules | None = None
    ) -> None:
        self._limits, self._loading, self._observe = limits, loading, observe
        self._rules = rules or AnswerRules()
        self._names: list[str] = []
        self._models: dict[str, ServedModel] = {}
        self._reloading = threading.Lock()

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(list(self._models.values()))

    def __len__(self) -> int:
        return len(self._models)

    def get(self, name: str | None = None) -> ServedModel:
        """The model of a name; without one, the first.

        Raises:
            RequestError: 404 where there is none.
        """
        if name is None:
            return next(iter(self._models.values()))
        try:
            return self._models[name]
        except KeyError:
            raise RequestError(404, "not_found", f"no model {name!r}; known: {', '.join(self._models)}") from None

    def add(self, name: str, source: str | Path | Predictor) -> ServedModel:
        """Load a model from its folder (or take a loaded one), try it on a sample, and serve it under a name.

        Raises:
            InputError: no model there, or one that does not answer.
        """
        return self.add_all({name: source})[0]

    def add_all(self, sources: Mapping[str, str | Path | Predictor]) -> list[ServedModel]:
        """`add` for several models by name.

        Raises:
            InputError: as `add`; or a rule that concerns none of them.
        """
        self._names += [name for name in sources if name not in self._names]
        found = [self._started(name, source) for name, source in sources.items()]
        self._models |= {served.name: served for served in found}
        self._rules.check_used([(served.name, served.model) for served in self])
        return found

    def reload(self, name: str) -> ServedModel:
        """Load a model's folder again beside the one that answers, try it, and switch; the old one ends its queue.

        Raises:
            RequestError: 409 the folder does not load or answer; the old model goes on.
        """
        old = self.get(name)
        if old.folder is None:
            raise RequestError(409, "not_reloaded", f"model {name!r} was handed over from Python, not from a folder")
        with self._reloading:
            try:
                new = self._started(name, old.folder)
            except InputError as error:
                logger.error("serving: %s was not reloaded, the old version stays in use: %s", name, error)
                raise RequestError(409, "not_reloaded", f"the old version stays in use: {error}") from None
            self._models[name] = new
        logger.info("serving: %s: version %s replaces %s", name, new.version, old.version)
        threading.Thread(target=old.batcher.close, name="bertune-retire", daemon=True).start()
        return new

    def close(self, seconds: float) -> None:
        """Answer what waits, then end all threads."""
        for served in self:
            served.batcher.close(seconds)

    def _started(self, name: str, source: str | Path | Predictor) -> ServedModel:
        folder = Path(source) if isinstance(source, str | Path) else None
        model = self._loading(Path(source)) if isinstance(source, str | Path) else source
        engine = Engine(self._rules.applied(name, model, self._names))
        release_openmp_threads()  # those of this thread, which loaded the model: the batcher's thread computes
        limits = self._limits
        batcher = Batcher(
            engine,
            max_batch_tokens=limits.max_batch_tokens,
            max_queue_tokens=limits.max_queue_tokens,
            observe=lambda what, value: self._observe(name, what, value),
        )
        form = form_of(engine.example)
        served = ServedModel(name, folder, engine, batcher, engine.model.version, form, _metrics(folder))
        problem = served.canary()
        if problem is not None:
            batcher.close(1.0)
            raise InputError(f"model {name} ({folder}): it does not answer a sample item: {problem}")
        return served


def _metrics(folder: Path | None) -> Mapping[str, Any]:
    if folder is None or not (folder / "metrics.json").is_file():
        return {}
    return read_json(folder / "metrics.json")


def estimates(engine: Engine, items: Sequence[Any]) -> list[int]:
    """Tokens expected of every item."""
    return [engine.estimate(item) for item in items]
