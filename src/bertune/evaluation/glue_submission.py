"""Files of predictions as GLUE's server takes them: a TSV file a task with the columns index and prediction.

Source: https://gluebenchmark.com/faq (names of the files, and what stands in them).
"""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertune.errors import InputError, counted
from bertune.files.atomic_write import unwritable, write_text
from bertune.model.use import Model

logger = logging.getLogger(__name__)

NAMES = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "stsb": "STS-B",
    "qqp": "QQP",
    "mnli": "MNLI-m",
    "qnli": "QNLI",
    "rte": "RTE",
    "wnli": "WNLI",
}
"""Names of the files, by task."""
TESTS = {"mnli": (("test_matched.tsv", "MNLI-m"), ("test_mismatched.tsv", "MNLI-mm"))}
"""Test files and the names of their predictions, where a task has not just test.tsv."""
DIAGNOSTIC = "AX"
"""GLUE's diagnostic pairs, which a model of MNLI answers: its file, or its folder beside that of MNLI."""
_DIAGNOSTIC_FILES = ("diagnostic.tsv", "../diagnostic/diagnostic.tsv", "../AX/diagnostic.tsv", "../AX/test.tsv")
_HIGHEST = 5.0
"""Of STS-B's scores."""


def submission_text(task: str, predictions: Sequence[dict[str, Any]]) -> str:
    """A submission file: rows numbered from 0, with labels as GLUE spells them, or scores from 0 to 5.

    Raises:
        InputError: a task that is none of GLUE's, or a model whose answers have no label.
    """
    if task not in NAMES:
        raise InputError(f"GLUE has no task {task}; it has: {', '.join(NAMES)}")
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(("index", "prediction"))
    for index, prediction in enumerate(predictions):
        if task == "stsb":
            answer: object = f"{min(_HIGHEST, max(0.0, float(prediction['score']))):.3f}"
        elif "label" in prediction:
            answer = prediction["label"]
        else:
            raise InputError(f"GLUE's {task}: the model's answers have no label")
        writer.writerow((index, answer))
    return text.getvalue()


def write_submission(model: Model, data: Path, output: Path) -> None:
    """Answer a test file, and write the answers as a submission file.

    Raises:
        InputError: a model of another task, or a file that it cannot read.
        FaultError: the disk is full or broken.
    """
    predictions = model.predict(data)
    text = submission_text(model.task.name, predictions)
    try:
        write_text(output, text)
    except OSError as error:
        raise unwritable(error, f"--output {output}: cannot be written: {error.strerror or error}") from None
    logger.info("%s: %s", output, counted(len(predictions), "answer"))


def tests_of(task: str, folder: Path) -> list[tuple[Path, str]]:
    """The test files of a GLUE task that lie in a folder, and the names of their submission files.

    With those of MNLI the diagnostic pairs (AX), which lie in a folder of their own.
    """
    named = TESTS.get(task, (("test.tsv", NAMES.get(task, "")),))
    found = [(folder / test, f"{name}.tsv") for test, name in named if name and (folder / test).is_file()]
    if task == "mnli":
        diagnostic = [folder / one for one in _DIAGNOSTIC_FILES if (folder / one).is_file()][:1]
        found += [(path, f"{DIAGNOSTIC}.tsv") for path in diagnostic]
    return found
