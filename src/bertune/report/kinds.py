"""Sections of a report that only some tasks have, by the figures that are there (`Task.diagnostics` and others)."""

from collections.abc import Mapping
from typing import Any

from bertune.report import charts
from bertune.report.html import note, section, side_by_side, table

Words = Mapping[str, str]
_MOST_CURVES = 12


def sections(report: Mapping[str, Any], word: Words) -> list[str]:
    """Entities, numbers, questions, labels, pairs, choices."""
    return [
        _entities(report, word),
        _numbers(report, word),
        _questions(report, word),
        _labels(report, word),
        _similarities(report, word),
        _choices(report, word),
    ]


def _entities(report: Mapping[str, Any], word: Words) -> str:
    found = report.get("entity_errors")
    if not found:
        return ""
    drawn = charts.bars(word["entities"], [(name, float(count)) for name, count in found.items()])
    return section(word["entities"], note(word["kinds"]), side_by_side(drawn))


def _numbers(report: Mapping[str, Any], word: Words) -> str:
    points = [(a, b) for a, b in report.get("numbers", ())[:2000]]
    drawn = charts.scatter(word["numbers"], (word["true"], word["predicted"]), points)
    rows = [(f"{one['share']:.0%}", one["half_width"], f"{one['held']:.1%}") for one in report.get("intervals", ())]
    heads = (word["interval_share"], word["interval_half"], word["interval_held"])
    intervals = note(word["interval_note"]) + table(heads, rows) if rows else ""
    return section(word["numbers"], side_by_side(drawn)) + section(word["intervals"], intervals)


def _questions(report: Mapping[str, Any], word: Words) -> str:
    parts = []
    for name in ("question_words", "answer_lengths"):
        rows = [(one["kind"], one["rows"], one["exact_match"], one["f1"]) for one in report.get(name, ())]
        parts.append(section(word[name], table((word[f"{name}_head"], word["rows"], "exact_match", "f1"), rows)))
    null = report.get("null_curve")
    if null:
        points = [(one["threshold"], one["f1"]) for one in null["curve"]]
        drawn = charts.lines(word["null_curve"], (word["threshold"], "f1"), [("f1", points)])
        told = word["null_note"].format(threshold=f"{null['threshold']:.3f}")
        parts.append(section(word["null_curve"], note(told), side_by_side(drawn)))
    return "".join(parts)


def _labels(report: Mapping[str, Any], word: Words) -> str:
    found = report.get("label_curves", ())
    heads = (word["label"], word["rows"], word["average_precision"], word["threshold"], word["precision"],
             word["recall"])  # fmt: skip
    rows = [
        (one["label"], one["rows"], one["average_precision"], one["threshold"], one["precision"], one["recall"])
        for one in found
    ]
    drawn = [
        charts.lines(
            one["label"],
            (word["recall"], word["precision"]),
            [(one["label"], [(point["recall"], point["precision"]) for point in one["curve"]])],
            up=(0.0, 1.0),
            across=(0.0, 1.0),
        )
        for one in found[:_MOST_CURVES]
    ]
    return section(word["label_curves"], table(heads, rows), side_by_side(*drawn))


def _similarities(report: Mapping[str, Any], word: Words) -> str:
    found = report.get("similarities")
    if not found:
        return ""
    drawn = _histogram(word["similarities"], word["cosine"], found, word)
    return section(word["similarities"], note(word["similarities_note"]), side_by_side(drawn))


def _choices(report: Mapping[str, Any], word: Words) -> str:
    places = report.get("choice_places")
    if not places:
        return ""
    rows = [
        (str(one["place"]), one["rows"], one["answered"], "" if one["accuracy"] is None else one["accuracy"])
        for one in places
    ]
    longest = report["choice_longest"]
    told = word["longest"].format(right=f"{longest['right']:.0%}", answered=f"{longest['answered']:.0%}")
    drawn = _histogram(word["leads"], word["lead"], report["choice_leads"], word)
    heads = (word["choice_place"], word["rows"], word["answered"], word["accuracy"])
    return section(word["choices"], table(heads, rows), note(told), side_by_side(drawn))


def _histogram(title: str, axis: str, found: Mapping[str, Any], word: Words) -> str:
    series = [
        (f"{word.get(name, name)} ({group['count']})", group["shares"]) for name, group in found["groups"].items()
    ]
    return charts.histogram(title, (axis, word["share_of_rows"]), found["edges"], series)
