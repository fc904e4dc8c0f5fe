"""The data doctor: all findings about a training file and, where there is one, a validation file."""

import dataclasses
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertune.checking.findings import SEVERITIES, Finding, between, in_file, of_lengths, of_training
from bertune.checking.lengths import Lengths, LengthSample, quiet, suggested_batch_size
from bertune.checking.survey import Survey, over_files, survey_of_files, take_survey
from bertune.data.sources import shown
from bertune.errors import InputError, Problems
from bertune.tasks.labelled import Labelled
from bertune.tasks.protocol import Task
from bertune.tokenization.tokenizer import Tokenizer

BRIEF = 4
"""Findings that `train` tells."""


@dataclass(frozen=True)
class Text:
    """What turns text into the encoder's tokens. source: the encoder.  positions: its longest sequence."""

    source: str
    tokenizer: Tokenizer
    positions: int


@dataclass(frozen=True)
class Report:
    """What was found. surveys and lengths: by "train" and "validation"."""

    task: Task[Any]
    encoder: str | None
    surveys: Mapping[str, Survey]
    lengths: Mapping[str, Lengths]
    findings: Sequence[Finding]
    max_seq_length: int
    suggested_length: int | None
    suggested_batch: tuple[int, str] | None
    seconds: float

    def count(self, severity: str) -> int:
        """How many findings of a severity there are."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def fine(self) -> bool:
        """Whether there is nothing but notes."""
        return not self.count("error") and not self.count("warn")


def check(
    task: Task[Any], paths: Mapping[str, Path | Sequence[Path]], text: Text | None, max_seq_length: int
) -> Report:
    """Look at data as `train` would read it.

    Args:
        task: reads the files.
        paths: of "train", and perhaps "validation": one or several each.
        text: the encoder's; None: no lengths.
        max_seq_length: the longest sequence that training would see.

    Raises:
        InputError: files that cannot be read, or rows that the task cannot take: all at once.
    """
    start = time.perf_counter()
    problems = Problems()
    surveys, samples = {}, {}
    for role, named in paths.items():
        files = [named] if isinstance(named, Path) else list(named)
        path = shown(files)
        sample = LengthSample(task, text.tokenizer, max_seq_length) if text is not None else None
        try:
            parts = [(file, task.read(file, labelled=True)) for file in files]
            surveys[role] = survey_of_files(parts, path, None if sample is None else sample.add)
        except InputError as error:
            problems.add(str(error))
            continue
        if not len(surveys[role]):
            problems.add(f"{path}: holds no examples")
        if sample is not None:
            samples[role] = sample.lengths()
    problems.raise_if_any()
    findings = _findings(task, surveys)
    length = batch = None
    if text is not None:
        length = samples["train"].suggested(text.positions)
        mean = float(samples["train"].values.clip(max=max_seq_length).mean())
        batch = suggested_batch_size(task.defaults.batch_size, len(surveys["train"]), mean)
        for role, sample_ in samples.items():
            findings.extend(of_lengths(surveys[role], sample_, sample_.suggested(text.positions)))
        findings.extend(_too_long(surveys["train"], text, max_seq_length))
    seconds = time.perf_counter() - start
    source = None if text is None else text.source
    return Report(task, source, surveys, samples, _worst_first(findings), max_seq_length, length, batch, seconds)


def log_findings(task: Task[Any], read: Mapping[str, Labelled]) -> dict[str, Survey]:
    """Log the worst findings on examples that are read already; lengths are not looked at. Returns: what was seen."""
    surveys = {role: take_survey(one.path, one.examples) for role, one in read.items()}
    for role, one in read.items():
        if len(one.parts) > 1:
            surveys[role] = over_files(surveys[role], [(part.source.path, part.rows) for part in one.parts])
    worst = [finding for finding in _worst_first(_findings(task, surveys)) if finding.severity != "note"]
    logger = logging.getLogger(__name__)
    for finding in worst[:BRIEF]:
        logger.warning("%s", finding)
    if worst:
        more = f"{len(worst) - BRIEF} more findings, and " if len(worst) > BRIEF else ""
        logger.info("data: %sdetails: bertune check --task %s --train …", more, task.name)
    return surveys


def _findings(task: Task[Any], surveys: Mapping[str, Survey]) -> list[Finding]:
    """All but lengths."""
    weighted = "class_weights" in {field.name for field in dataclasses.fields(task.options)}
    found: list[Finding] = []
    train, validation = surveys["train"], surveys.get("validation")
    refusal, strange = _refused(task, train, validation)
    if refusal is not None:
        found.append(Finding("error", "refused", str(train.path), len(train), (), refusal, ""))
    for survey in surveys.values():
        found.extend(in_file(survey))
    found.extend(of_training(train, weighted=weighted))
    if validation is not None:
        found.extend(between(train, validation, refused=bool(strange)))
    return found


def _too_long(train: Survey, text: Text, max_seq_length: int) -> list[Finding]:
    """A length that training refuses, as the encoder has no positions for it."""
    if max_seq_length <= text.positions:
        return []
    what = f"--max-seq-length {max_seq_length}: {text.source} has only {text.positions} positions"
    remedy = f"--max-seq-length {text.positions} or less"
    return [Finding("error", "refused", str(train.path), len(train), (), what, remedy)]


def _refused(task: Task[Any], train: Survey, validation: Survey | None) -> tuple[str | None, list[str]]:
    """Why the task would not learn from this data, and what of the validation data it would not take."""
    if task.name == "pretraining":  # learns nothing from examples, and has a command of its own
        return None, []
    with quiet():
        try:
            learnt = task.fit(train.kept, path=train.path, settings={})
        except InputError as error:
            return str(error), []
        return None, [] if validation is None else learnt.problems(validation.kept, validation.path)


def _worst_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), -one.rows))
