"""`bertune serve`: fine-tuned models behind HTTP. `bertune.serving.app(models)` is the service as an ASGI app."""

from bertune.serving.app import app as app

__all__ = ["app"]
