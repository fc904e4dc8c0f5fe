"""How well a model's scores fit, before and after its temperature."""

from typing import Any

import numpy as np

from bertune.report.answers import Answered
from bertune.tasks.calibration import CalibrationRows, calibration_errors, cross_fitted
from bertune.tasks.reliability import bins_of
from bertune.tasks.row_metrics import Floats


def calibration_of(answered: Answered) -> dict[str, Any] | None:
    """Errors of scores without a temperature and with one.

    Rows that the temperature was fitted to are judged cross-fitted: each by the temperature that fits the other parts.
    Where the model has no temperature, what one would bring is shown.

    Returns: `temperatures` (none: the model has none), `applied`, `left_out` (one was fitted, but rows that it was not
    fitted to were no better predicted with it: all are 1), `cross_fitted`, and by `before` and `after` `ece`,
    `brier` and `bins`; None where the task has no probabilities to scale, or too few rows.
    """
    rows = answered.calibration_rows()
    if rows is None or not len(rows.logits):
        return None
    rows = rows.thinned()
    recorded = (answered.record.get("calibration") or {}).get("temperatures") or []
    applied = any(one != 1 for one in recorded)
    raw = rows.at(np.array(recorded or [1.0]))
    fresh = applied and not answered.recorded
    after = rows.probabilities() if fresh else cross_fitted(raw)
    if after is None:
        return None
    return {
        "temperatures": recorded,
        "applied": applied,
        "left_out": bool(recorded) and not applied,
        "cross_fitted": not fresh,
        "rows": len(rows.logits),
        "before": _described(raw, raw.probabilities()),
        "after": _described(raw, after),
    }


def _described(rows: CalibrationRows, probabilities: Floats) -> dict[str, Any]:
    errors = calibration_errors(rows, probabilities)
    bins = [
        {"confidence": mean, "accuracy": right, "rows": count}
        for mean, right, count in bins_of(*rows.confidence(probabilities))
    ]
    return {"ece": errors.ece, "brier": errors.brier, "bins": bins}
