"""The report as one HTML page: no scripts, nothing from elsewhere, every text of the data escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bertune.model.explain import coloured
from bertune.report import charts, kinds, trust
from bertune.report.html import STYLE, note, section, side_by_side, table
from bertune.report.words import words

_MOST_CHARTS = 6


def page(report: Mapping[str, Any], *, language: str, texts: bool, errors_file: str) -> str:
    """The whole page.

    Args:
        report: as `collect` gives it.
        language: en or zh.
        texts: whether rows of the data are shown.
        errors_file: name of the file that holds all errors.
    """
    word = words(language)
    sections = [
        _verdict(report, word),
        _metrics(report, word),
        _curves(report, word),
        _classes(report, word),
        *kinds.sections(report, word),
        *trust.sections(report, word),
        _slices(report, word),
        _lengths(report, word),
        _errors(report, word, texts, errors_file),
        _run(report, word),
    ]
    name = escape(f"{word['title']}: {_name(report['run']['folder'])}")
    head = (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{STYLE}</style></head><body><h1>{name}</h1>"
    )
    return "\n".join([head, *filter(None, sections), "</body></html>", ""])


def _name(path: str) -> str:
    """The last part of a path. Where the run and the data lay stands at the page's end alone."""
    return Path(path).resolve().name or path


def _verdict(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    own = next((one for one in report["metrics"] if one["metric"] == report["metric"]), None)
    if own is None:
        return ""
    told = f"{own['metric']} {own['value']:.4f} ({word['interval']}: {_interval(own)}), "
    told += word["of"].format(rows=report["rows"], data=_name(report["data"]))
    beaten = ""
    if report["baselines"]:
        from bertune.tasks.protocol import lower_is_better

        lower = lower_is_better(own["metric"])
        not_beaten = [
            name for name, found in report["baselines"].items()
            if own["metric"] in found and (found[own["metric"]] >= own["value"]) != lower
        ]  # fmt: skip
        beaten = word["worse"].format(names=", ".join(not_beaten)) if not_beaten else word["better"]
    return f'<p class="verdict">{escape(told)}</p>' + (f"<p>{escape(beaten)}</p>" if beaten else "")


def _interval(one: Mapping[str, Any]) -> str:
    return "" if one["low"] is None else f"{one['low']:.4f} – {one['high']:.4f}"


def _metrics(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    heads = (word["metric"], word["value"], word["interval"], *report["baselines"])
    rows = [
        (one["metric"], one["value"], _interval(one),
         *(found.get(one["metric"], "") for found in report["baselines"].values()))
        for one in report["metrics"]
    ]  # fmt: skip
    return section(word["metrics"], table(heads, rows))


def _curves(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    wanted = ["train/loss", "validation/loss", f"validation/{report['metric']}", "train/learning_rate",
              "train/gradient_norm"]  # fmt: skip
    drawn = [
        charts.lines(name, (word["step"], name), [(name, report["curves"][name])], marks=name.startswith("validation"))
        for name in dict.fromkeys(wanted)
        if len(report["curves"].get(name, ())) > 1
    ]
    return section(word["curves"], side_by_side(*drawn[:_MOST_CHARTS]))


def _classes(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    def share(one: Mapping[str, Any], name: str) -> str:
        low, high = one[f"{name}_interval"]
        return f"{one[name]:.3f} ({low:.3f} – {high:.3f})"

    rows = [
        (one["label"], one["rows"], share(one, "precision"), share(one, "recall"), one["f1"])
        for one in report.get("classes", ())
    ]
    shares = table((word["label"], word["rows"], word["precision"], word["recall"], "f1"), rows)
    confusion = report.get("confusion")
    drawn = pairs = ""
    if confusion:
        if confusion["labels"]:
            axes = (word["true"], word["answer"])
            drawn = side_by_side(charts.matrix(word["confusion"], confusion["labels"], confusion["counts"], axes))
        found = [(one["true"], one["answer"], one["rows"]) for one in confusion["pairs"]]
        if found:
            pairs = f"<h3>{escape(word['confused'])}</h3>" + table((word["true"], word["answer"], word["rows"]), found)
    return section(word["classes"], shares) + section(word["confusion"], drawn, pairs)


def _slices(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    rows = [
        (one["slice"], one["rows"], f"{one['accuracy']:.3f} ({one['low']:.3f} – {one['high']:.3f})",
         f"{one['difference']:+.3f}", f"{one['p_corrected']:.3f}")
        for one in report["slices"]
    ]  # fmt: skip
    if not rows:
        return ""
    heads = (word["slice"], word["rows"], word["accuracy"], word["difference"], word["corrected"])
    return section(word["slices"], table(heads, rows))


def _lengths(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    found = report["lengths"]
    bars = [(f"{one['from']}–{one['to']}", float(one["rows"])) for one in found["bars"]]
    told = note(word["cut"].format(cut=found["cut"], rows=report["rows"])) if found["cut"] else ""
    return section(word["lengths"], told, side_by_side(charts.bars(f"{word['lengths']} ({word['tokens']})", bars)))


def _errors(report: Mapping[str, Any], word: Mapping[str, str], texts: bool, errors_file: str) -> str:
    if not texts:
        return section(word["errors"], note(word["hidden"]))
    heads = (word["place"], word["text"], word["true"], word["answer"], word["score"])

    def listed(rows: Sequence[Mapping[str, Any]]) -> str:
        return table(
            heads,
            ((str(one["place"]), one["text"][:600], one["truth"], one["answer"],
              one["score"] if one["score"] is not None else "") for one in rows),
        )  # fmt: skip

    count = word["errors_count"].format(all=report["errors_in_all"], shown=len(report["errors"]), file=errors_file)
    parts = [section(word["errors"], note(count), listed(report["errors"]))]
    if report.get("suspects"):
        told = word["suspects_note"].format(expected=report["suspects_expected"])
        parts.append(section(word["suspects"], note(told), listed(report["suspects"][:50])))
    explained = [
        f"<p>{escape(str(one['place']))}: {escape(one['truth'])} → <b>{escape(str(one['label']))}</b></p>"
        + coloured(one["texts"], one["words"])
        for one in report.get("explained", ())
    ]
    parts.append(section(word["explained"], *([note(word["explained_note"]), *explained] if explained else [])))
    alike = [
        (f"{one['alike']:.0%}", str(one["place"]), one["text"][:600], one["truth"], one["answer"])
        for one in report["contrary"]
    ]
    heads = (word["alike"], word["place"], word["text"], word["true"], word["answer"])
    parts.append(section(word["contrary"], table(heads, alike)))
    return "".join(parts)


def _run(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    rows: list[tuple[str, str]] = [("task", str(report["task"])), ("data of this report", str(report["data"]))]
    for name, value in report["run"].items():
        if name == "data":
            rows += [(f"{role} data", f"{one.get('file')}, {one.get('rows')} rows, SHA-256 {one.get('sha256')}")
                     for role, one in value.items() if isinstance(one, Mapping)]  # fmt: skip
        elif value not in (None, ""):
            rows.append((name.replace("_", " "), str(value)))
    return section(word["run"], table(("", ""), rows))
