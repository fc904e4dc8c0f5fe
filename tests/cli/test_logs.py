"""Messages on stderr: facts of a file that a command reads several times are printed once, all others each time."""

import logging

import pytest

from bertune.cli.logs import start_logging


def test_facts_of_a_file_are_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("bertune")
    before, level, propagate = list(logger.handlers), logger.level, logger.propagate
    logger.handlers.clear()
    try:
        start_logging()
        for name in ("a.csv", "b.csv", "a.csv"):
            logging.getLogger("bertune.tasks").info("%s: read", name, extra={"once": True})
            logging.getLogger("bertune.tasks").info("%s: done", name)
    finally:
        logger.handlers[:], logger.level, logger.propagate = before, level, propagate
    lines = capsys.readouterr().err.split("\n")
    assert lines.count("a.csv: read") == lines.count("b.csv: read") == 1
    assert lines.count("a.csv: done") == 2
