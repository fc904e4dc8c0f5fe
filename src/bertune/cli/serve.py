"""`bertune serve`."""

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bertune.cli.arguments import parse
from bertune.errors import InputError, Problems
from bertune.serving.memory import limit_caches, limit_heaps
from bertune.serving.options import ServeOptions, environment_arguments, limits_of, named_folders

if TYPE_CHECKING:
    from bertune.serving.served import Loader

_ABOUT = """Serve fine-tuned models over HTTP, with a page to try them on.

For example, then open http://127.0.0.1:8000:
  bertune serve --model out/demo
  curl -s http://127.0.0.1:8000/v1/models/demo/predict \\
    -d '{"inputs": ["where is my card?"]}'

Every option can come from the environment: BERTUNE_SERVE_PORT=8080 is --port 8080; the command line wins."""
_NEEDED = ("starlette", "uvicorn", "prometheus_client", "orjson")


def main(argv: Sequence[str]) -> None:
    """Load the models, then serve until a signal."""
    options = ServeOptions(**parse("bertune serve", _ABOUT, [ServeOptions], [*environment_arguments(), *argv]))

    limit_caches()
    limit_heaps()
    from bertune.serving.served import Loading

    serve(options, Loading(options.precision, options.device, options.trust_task_file), "bertune")


def serve(options: ServeOptions, loading: "Loader", distribution: str) -> None:
    """Serve models that `loading` loads, until a signal. distribution: whose extra `serve` holds what is needed.

    Raises:
        InputError: illegal options, or packages that are not installed.
    """
    problems = Problems()
    problems.extend(options.problems())
    if not 0 <= options.port <= 65535:
        problems.add(f"--port {options.port}: must be between 0 and 65535")
    absent = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        problems.add(f"serving needs {', '.join(absent)}: pip install '{distribution}[serve]'")
    problems.raise_if_any()
    folders = named_folders(options.model)
    keys = () if options.api_key_file is None else read_keys(Path(options.api_key_file))

    from bertune.serving.answer_rules import AnswerRules
    from bertune.serving.application import app
    from bertune.serving.run import serve as run

    logging.getLogger("bertune.serving.access").setLevel(logging.INFO if options.access_log else logging.ERROR)
    made = app(
        folders, limits=limits_of(options), loading=loading, api_keys=keys, access_log=options.access_log,
        rules=AnswerRules(options.threshold or (), options.automate_at or (), options.interval or ()),
    )  # fmt: skip
    run(made, options.host, options.port)


def read_keys(path: Path) -> tuple[str, ...]:
    """API keys of a file, one a line; blank lines and lines that begin with # are passed over.

    Raises:
        InputError: an unreadable file, or one without keys.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--api-key-file {path}: cannot be read: {error}") from None
    keys = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not keys:
        raise InputError(f"--api-key-file {path}: holds no key; write one a line")
    return keys
