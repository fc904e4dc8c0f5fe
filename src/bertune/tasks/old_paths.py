"""Import paths of earlier versions. Task files which models are bound to by their SHA-256 cannot follow a move.

`bertune.tasks` installs a finder for them; each is a module that looks a name up where it is now.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

HOMES = {
    "bertune.data.features": ("features", "data.pairs"),
    "bertune.data.packing": ("network",),
    "bertune.inference.network": ("network",),
    "bertune.ragged": ("features",),
    "bertune.tasks.defaults": ("tasks.base", "tasks.user_files"),
    "bertune.tasks.heads": ("tasks.shared.heads", "tasks.shared.huggingface"),
    "bertune.tasks.layers": ("tasks.shared.layers", "tasks.options"),
    "bertune.tasks.losses": ("tasks.shared.heads", "tasks.shared.class_weights", "tasks.options"),
    "bertune.tasks.names": ("tasks.registry",),
    "bertune.tasks.shared.losses": ("tasks.shared.heads",),
    "bertune.tasks.task": ("tasks.protocol", "tasks.registry"),
    "bertune.tasks.task_files": ("tasks.user_files",),
    "bertune.tasks.texts": ("tasks.shared.texts", "tasks.options"),
}
"""The old module, and the modules of `bertune` that hold its names now."""
RENAMED = {"FocusOptions": "FocalLossOptions"}


class OldPaths(MetaPathFinder, Loader):
    """Finds and makes the modules of `HOMES`."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """A spec for an old path; None for every other one, so that the usual finders look for it."""
        return ModuleSpec(fullname, self) if fullname in HOMES else None

    def exec_module(self, module: ModuleType) -> None:
        """Give the module a `__getattr__` (PEP 562) that forwards to where its names are now."""

        def forwarded(name: str) -> Any:
            if not name.startswith("__"):
                for home in HOMES[module.__name__]:
                    found = importlib.import_module(f"bertune.{home}")
                    if hasattr(found, RENAMED.get(name, name)):
                        return getattr(found, RENAMED.get(name, name))
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        vars(module)["__getattr__"] = forwarded


def install() -> None:
    """Let old paths be imported from now on."""
    if not any(isinstance(finder, OldPaths) for finder in sys.meta_path):
        sys.meta_path.append(OldPaths())
