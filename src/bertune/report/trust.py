"""Sections of a report on scores: whether they can be trusted, and how much can be answered automatically."""

from collections.abc import Mapping
from typing import Any

from bertune.report import charts
from bertune.report.html import note, section, side_by_side, table

Words = Mapping[str, str]


def sections(report: Mapping[str, Any], word: Words) -> list[str]:
    """Reliability, before and after a temperature where there is one to speak of; coverage."""
    return [_reliability(report, word), _coverage(report, word)]


def _reliability(report: Mapping[str, Any], word: Words) -> str:
    found, calibration = report.get("reliability"), report.get("calibration")
    if calibration is not None:
        series = [(word[name], _points(calibration[name]["bins"])) for name in ("before", "after")]
    elif found:
        series = [("", _points(found["bins"]))]
    else:
        return ""
    diagram = charts.lines(
        word["reliability"], (word["score"], word["accuracy"]), series, diagonal=True, up=(0.0, 1.0), marks=True
    )
    notes = [note(word["ece"].format(ece=f"{found['ece']:.3f}"))] if found else []
    notes += [note(word["not_calibrated"])] if calibration is None else _calibration(calibration, word)
    return section(word["reliability"], *notes, side_by_side(diagram))


def _points(bins: list[Mapping[str, float]]) -> list[charts.Point]:
    return [(one["confidence"], one["accuracy"]) for one in bins]


def _calibration(found: Mapping[str, Any], word: Words) -> list[str]:
    before, after = found["before"], found["after"]
    better = after["ece"] < before["ece"]
    shown = ", ".join(f"{value:.3f}" for value in found["temperatures"][:10])
    if found["applied"]:
        told = [word["temperature"].format(temperatures=shown), word["helps" if better else "helps_not"]]
    else:
        none = word["left_out" if found["left_out"] else "no_temperature"]
        told = [none, word["would_help" if better else "would_not_help"]]
    if found["cross_fitted"]:
        told.append(word["cross_fitted"])
    rows = [("ECE", before["ece"], after["ece"]), ("Brier", before["brier"], after["brier"])]
    return [note(" ".join(told)), table(("", word["before"], word["after"]), rows)]


def _coverage(report: Mapping[str, Any], word: Words) -> str:
    found = report.get("coverage")
    if not found:
        return ""
    curve = [(one["share"], one["accuracy"]) for one in found["curve"]]
    drawn = charts.lines(word["coverage"], (word["share"], word["accuracy"]), [("", curve)])
    told = [
        word["automate"].format(accuracy=wanted, share=f"{at['share']:.0%}", score=f"{at['score']:.3f}")
        if at else word["automate_none"].format(accuracy=wanted)
        for wanted, at in found["automate"].items()
    ]  # fmt: skip
    return section(word["coverage"], *map(note, told), side_by_side(drawn))
