"""Temperature scaling: logits divided by a number, so that probabilities say how often answers are right.

Source: Guo et al., 2017, "On calibration of modern neural networks". A temperature above 0 changes no order among
logits, so that no answer changes. With several independent labels each has a temperature of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bertune.tasks.reliability import brier, brier_each, expected_calibration_error
from bertune.tasks.row_metrics import Floats

LEAST_ROWS = 50
"""Validation rows below which a temperature says too little to be used."""
LEAST_OF_A_KIND = 10
"""Rows that have a label, and rows that do not, which that label's own temperature takes at least."""
COLDEST, HOTTEST = 0.1, 20.0
"""Between these a temperature is sought."""
FOLDS = 5
"""Parts of the rows in cross-fitting: each is scaled by the temperature that fits the others."""
MOST_NUMBERS = 1 << 23
"""Logits from which on a temperature of all outputs is fitted to rows drawn evenly: of 5,000 outputs 1,677 rows."""
_AT_ONCE = 1 << 20
"""Logits whose probabilities are computed together."""
_HALVINGS = 24
_GRID = 41
_LEAST_SHARE = 1e-9
"""Of a probability whose logarithm is taken."""


@dataclass(frozen=True)
class CalibrationRows:
    """What probabilities are computed from, and what was true.

    logits: minus infinity where a row has fewer outputs than others. Shape: (rows, outputs).
    truth: the true output of every row, of which one holds. Shape: (rows,); or, for independent outputs, whether each
        holds. Shape: (rows, outputs); or, with `chosen`, whether that output is right. Shape: (rows,).
    chosen: the output that was answered, where outputs are candidates of which none need be right, and a rule of its
        own may have preferred another than the first (answers to questions, with their null threshold). Shape: (rows,).
    """

    logits: npt.NDArray[np.floating]
    truth: npt.NDArray[np.integer] | npt.NDArray[np.bool_]
    chosen: npt.NDArray[np.integer] | None = None

    @property
    def independent(self) -> bool:
        """Whether each output holds or not, whatever the others do."""
        return self.truth.ndim == 2

    def probabilities(self, temperatures: Floats | None = None) -> Floats:
        """Of every output, in half the bytes where there are more than MOST_NUMBERS.

        Shape: temperatures (outputs,) or (1,) → (rows, outputs).
        """
        rows, outputs = self.logits.shape
        result = np.empty((rows, outputs), np.float32 if self.logits.size > MOST_NUMBERS else np.float64)
        step = max(1, _AT_ONCE // max(1, outputs))
        for start in range(0, rows, step):
            logits = self.logits[start : start + step].astype(np.float64)
            if temperatures is not None:
                logits /= temperatures
            if self.independent:
                result[start : start + step] = sigmoid(logits)
            else:
                exponents = np.exp(logits - logits.max(1, keepdims=True))
                result[start : start + step] = exponents / exponents.sum(1, keepdims=True)
        return result

    def surest(self) -> tuple[Floats, npt.NDArray[np.int64]]:
        """The highest probability of every row, and whose it is. Shape: (rows,) each."""
        step = max(1, _AT_ONCE // max(1, self.logits.shape[1]))
        parts = [self.take(slice(start, start + step)) for start in range(0, len(self.logits), step)]
        highest = [part.probabilities().max(1) for part in parts]
        return np.concatenate([np.zeros(0), *highest]), np.asarray(self.logits.argmax(1), np.int64)

    def thinned(self) -> "CalibrationRows":
        """These rows, or where they hold more than MOST_NUMBERS logits, some drawn evenly."""
        step = -(-self.logits.size // MOST_NUMBERS)
        return self if step <= 1 else self.take(slice(None, None, step))

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_] | slice) -> "CalibrationRows":
        """Some of the rows. Shape: rows (taken,), or flags (rows,)."""
        return CalibrationRows(self.logits[rows], self.truth[rows], None if self.chosen is None else self.chosen[rows])

    def confidence(self, probabilities: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """The probability of every answer, and whether it is right: each independent output is an answer of its own.

        Shape: probabilities (rows, outputs) → (rows,) or (rows * outputs,) each.
        """
        if self.independent:
            return probabilities.ravel(), self.truth.astype(np.bool_).ravel()
        if self.chosen is not None:
            return probabilities[np.arange(len(probabilities)), self.chosen], self.truth.astype(np.bool_)
        return probabilities.max(1), probabilities.argmax(1) == self.truth

    def at(self, factors: Floats) -> "CalibrationRows":
        """The same rows, their logits multiplied. Shape: factors (outputs,) or (1,)."""
        return CalibrationRows(self.logits * factors, self.truth, self.chosen)


@dataclass(frozen=True)
class CalibrationErrors:
    """How far probabilities are from how often answers are right.

    ece: expected calibration error, of the surest output, or of every independent one.
    brier: mean squared distance of probabilities from the truth, summed over a row's outputs; of candidates that of the
        answer's alone.
    """

    ece: float
    brier: float


def sigmoid(logits: Floats) -> Floats:
    """Shape: any, the same."""
    result: Floats = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return result


def fit_temperatures(rows: CalibrationRows) -> Floats | None:
    """The temperature with the least cross-entropy: one for all outputs, or one for each independent output.

    The true output counts (n + 1) / (n + 2), as the rule of succession has it for n rows (Platt, 1999): otherwise rows
    that are all right would ask for a temperature of 0. A label with too few rows of either kind keeps 1.

    Returns: Shape: (1,) or (outputs,); None where there are fewer than LEAST_ROWS rows.
    """
    return None if len(rows.logits) < LEAST_ROWS else _fitted(rows)


def _fitted(rows: CalibrationRows) -> Floats:
    """`fit_temperatures` for however few rows."""
    if rows.independent:
        return _independent(rows)
    return _joint(rows.thinned()) if rows.chosen is None else _of_answers(rows.thinned())


def useful_temperatures(rows: CalibrationRows) -> Floats | None:
    """`fit_temperatures`, but 1 where rows that a temperature was not fitted to are no better predicted with it.

    Judged by cross-fitting: the cross-entropy of every part of the rows at the temperature that fits the others. A
    temperature fitted to few rows, of a model whose scores are right as they are, is chance and does harm. Every
    independent output is judged by itself.

    Returns: Shape: (1,) or (outputs,); None where there are fewer than LEAST_ROWS rows.
    """
    found = fit_temperatures(rows)
    if found is None:
        return None
    if not rows.independent:
        return found if _gain(rows.thinned())[0] > 0 else np.ones(1)
    fitted = np.flatnonzero(found != 1)
    together = max(1, _AT_ONCE // len(rows.truth))
    for start in range(0, len(fitted), together):
        some = fitted[start : start + together]
        gain = _gain(CalibrationRows(rows.logits[:, some], rows.truth[:, some]))
        found[some[gain <= 0]] = 1
    return found


def _gain(rows: CalibrationRows) -> Floats:
    """By how much temperatures fitted to other parts lower the cross-entropy of the rows, summed over these.

    Shape: (1,), or (outputs,) for independent outputs.
    """
    part, total = np.arange(len(rows.logits)) % FOLDS, np.zeros(1)
    for index in range(FOLDS):
        own = rows.take(part == index)
        total = total + _cross_entropy(own, own.probabilities())
        total = total - _cross_entropy(own, own.probabilities(_fitted(rows.take(part != index))))
    return total


def _cross_entropy(rows: CalibrationRows, probabilities: Floats) -> Floats:
    """Of the truth, summed over the rows. Shape: probabilities (rows, outputs) → (1,), or (outputs,) if independent."""
    if rows.independent:
        truth, p = rows.truth.astype(np.bool_), probabilities
    elif rows.chosen is not None:
        confidence, truth = rows.confidence(probabilities)
        truth, p = truth[:, None], confidence[:, None]
    else:
        p = probabilities[np.arange(len(probabilities)), rows.truth.astype(np.int64)][:, None]
        truth = np.ones(p.shape, np.bool_)
    result: Floats = -np.log(np.clip(np.where(truth, p, 1 - p), _LEAST_SHARE, None)).sum(0)
    return result


def _joint(rows: CalibrationRows) -> Floats:
    present = np.isfinite(rows.logits)
    logits = np.where(present, rows.logits.astype(np.float64, copy=False), 0.0)
    logits = logits - logits.max(1, keepdims=True, where=present, initial=-np.inf)
    count, own = len(logits), np.arange(len(logits))
    others = np.maximum(present.sum(1) - 1, 1)
    target = np.where(present, (1 / (count + 2) / others)[:, None], 0.0)
    target[own, rows.truth.astype(np.int64)] = (count + 1) / (count + 2)
    wanted = float((target * logits).sum())

    def slope(inverse: Floats) -> Floats:
        weights = np.where(present, np.exp(inverse * logits), 0.0)
        return np.array([((weights * logits).sum(1) / weights.sum(1)).sum() - wanted])

    return _temperatures(slope, 1)


def _of_answers(rows: CalibrationRows) -> Floats:
    """The temperature at which the answers' probabilities say best which of them are right.

    The cross-entropy of a softmax's one output need not have a single valley, so that a grid finds the valley first.
    """
    right = rows.truth.astype(np.bool_)
    count = int(right.sum())
    target = np.where(right, (count + 1) / (count + 2), 1 / (len(right) - count + 2))

    def loss(log: float) -> float:
        p, _ = rows.confidence(rows.probabilities(np.array([np.exp(log)])))
        p = np.clip(p, _LEAST_SHARE, 1 - _LEAST_SHARE)
        return float(-(target * np.log(p) + (1 - target) * np.log1p(-p)).mean())

    grid = np.linspace(np.log(COLDEST), np.log(HOTTEST), _GRID)
    at = int(np.argmin([loss(log) for log in grid]))
    low, high = grid[max(at - 1, 0)], grid[min(at + 1, _GRID - 1)]
    for _ in range(_HALVINGS):  # golden sections would save half of these; each takes milliseconds
        third = (high - low) / 3
        low, high = (low, high - third) if loss(low + third) <= loss(high - third) else (low + third, high)
    return np.array([np.exp((low + high) / 2)])


def _independent(rows: CalibrationRows) -> Floats:
    found, with_label = np.ones(rows.logits.shape[1]), rows.truth.sum(0)
    fitted = np.flatnonzero(np.minimum(with_label, len(rows.truth) - with_label) >= LEAST_OF_A_KIND)
    together = max(1, _AT_ONCE // len(rows.truth))
    for start in range(0, len(fitted), together):
        some = fitted[start : start + together]
        found[some] = _each(rows.logits[:, some].astype(np.float64), rows.truth[:, some].astype(np.bool_))
    return found


def _each(logits: Floats, truth: npt.NDArray[np.bool_]) -> Floats:
    """A temperature for every column. Shape: (rows, outputs) each → (outputs,)."""
    with_label = truth.sum(0)
    target = np.where(truth, (with_label + 1) / (with_label + 2), 1 / (len(truth) - with_label + 2))
    wanted = (target * logits).sum(0)

    def slope(inverse: Floats) -> Floats:
        result: Floats = (sigmoid(inverse * logits) * logits).sum(0) - wanted
        return result

    return _temperatures(slope, logits.shape[1])


def _temperatures(slope: Callable[[Floats], Floats], outputs: int) -> Floats:
    """Where the derivative of the cross-entropy by the inverse temperature is 0; it rises, so halving finds it.

    Shape: (outputs,) → (outputs,).
    """
    low, high = np.full(outputs, np.log(1 / HOTTEST)), np.full(outputs, np.log(1 / COLDEST))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = slope(np.exp(middle)) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    result: Floats = np.exp(-(low + high) / 2)
    return result


def calibration_errors(rows: CalibrationRows, probabilities: Floats) -> CalibrationErrors:
    """How well these probabilities fit the rows. Shape: probabilities (rows, outputs)."""
    confidence, correct = rows.confidence(probabilities)
    ece = expected_calibration_error(confidence, correct)
    if rows.independent:
        return CalibrationErrors(ece, brier_each(probabilities, rows.truth.astype(np.bool_)))
    if rows.chosen is not None:
        return CalibrationErrors(ece, float(((confidence - correct) ** 2).mean()))
    return CalibrationErrors(ece, brier(probabilities, rows.truth.astype(np.int64)))


def cross_fitted(rows: CalibrationRows) -> Floats | None:
    """Probabilities of every row at the temperature that fits rows of other parts.

    So a temperature is judged on rows that it was not fitted to. None where there are too few rows.

    Shape: (rows, outputs).
    """
    if len(rows.logits) < LEAST_ROWS:
        return None
    part = np.arange(len(rows.logits)) % FOLDS
    result = np.zeros(rows.logits.shape)
    for index in range(FOLDS):
        result[part == index] = rows.take(part == index).probabilities(_fitted(rows.take(part != index)))
    return result
