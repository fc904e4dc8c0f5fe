"""`bertune serve`: fine-tuned models behind HTTP. `bertune.serving.app(models)` is the service as an ASGI app."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertune.serving.application import app as app

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    """The app is imported when it is asked for: options and help need neither torch nor a web framework."""
    if name != "app":
        raise AttributeError(f"module 'bertune.serving' has no attribute {name!r}")
    import importlib

    return importlib.import_module("bertune.serving.application").app
