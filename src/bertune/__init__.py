"""bertune: fine-tune BERT encoders for your task.

    run = bertune.train(task="text-classification", encoder="minilm", train="train.csv", output="out")
    model = bertune.load("out")
    model.predict(["a text", ("a", "pair")])

Everything is imported at first use, so that `import bertune` costs nothing.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # as type checkers know it; typing is not imported, so that `import bertune` costs nothing
if TYPE_CHECKING:
    from typing import Any

    from bertune.adaptation import adapt
    from bertune.checkpoints.source import open_encoder
    from bertune.embedding import embed
    from bertune.errors import InputError
    from bertune.model.explain import explain
    from bertune.model.use import Model, load
    from bertune.prediction.frames import predict_frame
    from bertune.pretraining.pretrain import pretrain
    from bertune.training.train import train

_HOMES = {
    "InputError": "bertune.errors",
    "Model": "bertune.model.use",
    "adapt": "bertune.adaptation",
    "embed": "bertune.embedding",
    "explain": "bertune.model.explain",
    "load": "bertune.model.use",
    "open_encoder": "bertune.checkpoints.source",
    "predict_frame": "bertune.prediction.frames",
    "pretrain": "bertune.pretraining.pretrain",
    "train": "bertune.training.train",
}

__all__ = [
    "InputError",
    "Model",
    "adapt",
    "embed",
    "explain",
    "load",
    "open_encoder",
    "predict_frame",
    "pretrain",
    "train",
]


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module 'bertune' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public interface, for completion in notebooks; nothing is imported for it."""
    return [*__all__, "__version__"]
