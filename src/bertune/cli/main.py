"""`bertune COMMAND …`: answers `--help` and `--version` by itself, and leaves the rest to `command`.

Nothing more is imported before a command is known: everything counts in the time of `--help`.
"""

import sys

import bertune
from bertune.cli.general import general_help, show

TYPE_CHECKING = False  # as type checkers know it; importing it from typing is a tenth of the time of `bertune --help`
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run a command. Returns the exit status: 0 done, 2 bad input or usage, 1 anything else.

    argv: None: those of the process, which is then a process of ours.
    """
    if hasattr(sys.stdout, "reconfigure"):  # what a console's encoding lacks is shown as an escape
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["help"] and len(arguments) > 1:
        arguments = [*arguments[1:], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        show(general_help())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        show(f"bertune {bertune.__version__}")
        return 0
    from bertune.cli.command import end_despite_trackers, run

    status = run(arguments, ours=argv is None)
    if argv is None:
        end_despite_trackers(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
