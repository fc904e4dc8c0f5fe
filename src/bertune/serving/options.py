"""Options of `bertune serve`; each can also come from the environment, as BERTUNE_SERVE_ and its name in capitals."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bertune.errors import Problems
from bertune.options import DEVICES, PRECISIONS, option

logger = logging.getLogger(__name__)

PREFIX = "BERTUNE_SERVE_"


@dataclass(frozen=True)
class ServeLimits:
    """How much a service takes at a time."""

    max_batch_tokens: int = option(4096, help="largest number of tokens in a batch, padding not counted")
    max_queue_tokens: int = option(
        262144, help="largest number of tokens waiting for one model; more are refused (status 429)"
    )
    max_body_bytes: int = option(2_000_000, help="largest request body in bytes; larger ones are refused (status 413)")
    request_seconds: float = option(
        60.0, help="longest time that a request may take, in seconds (status 504 after that)"
    )
    drain_seconds: float = option(30.0, help="after SIGTERM: longest wait for unfinished requests, in seconds")

    def problems(self) -> list[str]:
        """Illegal values, a message each."""
        return [
            f"--{name.replace('_', '-')} {value}: must be above 0"
            for name, value in vars(self).items()
            if name in {field.name for field in fields(ServeLimits)} and not (_is_number(value) and value > 0)
        ]


@dataclass(frozen=True, kw_only=True)
class ServeOptions(ServeLimits):
    """What to serve, where, and how."""

    model: list[str] = option(  # noqa: RUF009
        help="folders that bertune train wrote, each as DIR or NAME=DIR; several are served side by side",
        value="[NAME=]DIR",
    )
    host: str = option("127.0.0.1", help="address to listen on; 0.0.0.0: all interfaces")
    port: int = option(8000, help="port to listen on; 0: a free one, printed at the start")
    precision: str = option("auto", help="floating-point format of the computation", choices=(*PRECISIONS, "int8"))
    device: str = option("auto", help="device to compute on", choices=DEVICES)
    api_key_file: str | None = option(
        None, help="file with accepted API keys, one per line (default: no key is required)"
    )
    trust_task_file: str | None = option(
        None, help="Python file of the model's task, if it was trained with --task FILE.py:Class; its code is run"
    )
    threshold: list[str] | None = option(  # noqa: RUF009
        None,
        help="leave answers with a lower score to a person (label null, review true), as in predict: NUMBER or "
        "LABEL=NUMBER …, for one of several models MODEL:NUMBER or MODEL:LABEL=NUMBER",
    )
    automate_at: list[str] | None = option(  # noqa: RUF009
        None,
        help="pick the threshold above which this share of the validation rows was right, and leave answers "
        "below it to a person, as in predict: NUMBER, or MODEL:NUMBER …",
    )
    interval: list[str] | None = option(  # noqa: RUF009
        None,
        help="models of numbers also answer with low and high, between which this share of the true numbers lies, "
        "as in predict: NUMBER, or MODEL:NUMBER …",
    )
    access_log: bool = option(True, help="log every request to stderr")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def environment_arguments(environment: Mapping[str, str] | None = None) -> list[str]:
    """Options named in the environment, as command line arguments; lists, such as `BERTUNE_SERVE_MODEL`, by spaces.

    Names of no option are logged and passed over, as are the addresses that Kubernetes gives the containers beside a
    service called bertune-serve (`BERTUNE_SERVE_PORT=tcp://…`).
    """
    given = {
        name: value
        for name, value in (os.environ if environment is None else environment).items()
        if name.startswith(PREFIX) and not _is_of_kubernetes(name, value)
    }
    found: list[str] = []
    for field in fields(ServeOptions):
        value = given.pop(PREFIX + field.name.upper(), None)
        if value is None:
            continue
        name = "--" + field.name.replace("_", "-")
        logger.info("%s in the environment: %s %s", PREFIX + field.name.upper(), name, value)
        if field.name in ("model", "threshold", "automate_at", "interval"):
            found += [name, *value.split()]
        elif isinstance(field.default, bool):
            found.append(f"{name}={value}")
        else:
            found += [name, value]
    for name in given:
        logger.warning("%s in the environment is no option of serve; `bertune serve --help` lists them", name)
    return found


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Whether a variable is one of those that Kubernetes sets for every service of a namespace."""
    return bool(re.fullmatch(r"SERVICE_(HOST|PORT.*)|PORT_\d+_.*", name.removeprefix(PREFIX))) or (
        name == PREFIX + "PORT" and re.match(r"(tcp|udp|sctp)://", value) is not None
    )


def named_folders(models: list[str]) -> dict[str, str]:
    """Folders by the names they are served under: `NAME=DIR`, or the folder's own name.

    Raises:
        InputError: two models of one name, a name that cannot stand in an address.
    """
    problems = Problems()
    found: dict[str, str] = {}
    for given in models:
        name, equals, folder = given.partition("=")
        if not equals:
            name, folder = Path(given).resolve().name, given
        if not name or not all(letter.isalnum() or letter in "-_." for letter in name):
            problems.add(
                f"--model {given}: the name {name!r} may hold letters, digits, - _ . only; write NAME={folder}"
            )
        elif name in found:
            problems.add(f"--model {given}: another model is named {name!r} already; write OTHER_NAME={folder}")
        found[name] = folder
    problems.raise_if_any()
    return found


def limits_of(options: Any) -> ServeLimits:
    """The limits among some options."""
    return ServeLimits(**{field.name: getattr(options, field.name) for field in fields(ServeLimits)})
