"""Tasks: one module or folder each, what they share in `shared`, and how they are found by name in `registry`."""

from bertune.tasks import old_paths

old_paths.install()
