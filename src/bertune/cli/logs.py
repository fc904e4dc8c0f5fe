"""Messages of a command go to stderr, a line each, above a progress bar where there is one."""

import logging


class _ConsoleHandler(logging.Handler):
    """Prints messages; those with `extra={"once": True}`, facts of a file that is read again, only the first time."""

    def __init__(self) -> None:
        super().__init__()
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        from bertune.progress import console

        text = record.getMessage()
        if getattr(record, "once", False):
            if text in self._printed:
                return
            self._printed.add(text)
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        console.print(text, soft_wrap=True, markup=False, highlight=False)


def start_logging() -> None:
    """Show bertune's messages, from INFO up."""
    logger = logging.getLogger("bertune")
    if not logger.handlers:
        logger.addHandler(_ConsoleHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False
