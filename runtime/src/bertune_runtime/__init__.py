"""Predict with models that `bertune export` wrote, without torch.

model = bertune_runtime.load("exported")
model.predict(["a text", ("a", "pair")])
"""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bertune.errors import InputError
    from bertune_runtime.model import RuntimeModel, load

__all__ = ["InputError", "RuntimeModel", "load"]


def _find_bertune() -> None:
    """Where bertune is not installed, `import bertune` finds the modules of it that this package carries."""
    if importlib.util.find_spec("bertune") is None:
        sys.path.append(str(Path(__file__).parent / "_modules"))
    if bertune_version() != __version__:
        raise ImportError(
            f"bertune-runtime {__version__} is installed beside bertune {bertune_version()}; install equal versions"
        )


def bertune_version() -> str:
    """The version of the modules of bertune in use."""
    import bertune

    return bertune.__version__


_find_bertune()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'bertune_runtime' has no attribute {name!r}")
    return getattr(importlib.import_module("bertune.errors" if name == "InputError" else "bertune_runtime.model"), name)
