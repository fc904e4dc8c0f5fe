"""The report as one HTML page: no scripts, nothing from elsewhere, every text of the data escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from bertune.report import charts
from bertune.report.words import words

_STYLE = """
:root{color-scheme:light dark;--ink:#1c1c1c;--soft:#666;--paper:#fff;--line:#ddd;--one:#2f6db5;--two:#c4630b;
--three:#2e8b57;--four:#8a4fa3}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--soft:#aaa;--paper:#191919;--line:#444;--one:#7fb0e8;--two:#eda35f;
--three:#7cc79b;--four:#c79be0}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--line)}
table{border-collapse:collapse;width:100%;margin:.5rem 0}th,td{text-align:left;padding:.2rem .6rem;
border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.verdict{font-size:1.2rem}.note{color:var(--soft)}.charts{display:flex;flex-wrap:wrap;gap:1rem}
.charts>*{flex:1 1 20rem;max-width:30rem}
svg{width:100%;height:auto;font:11px system-ui,sans-serif}
svg text{fill:var(--ink)}svg .axis{fill:none;stroke:var(--soft)}
svg .guide{fill:none;stroke:var(--soft);stroke-dasharray:4 3}svg .line{fill:none;stroke-width:2}
.line.s0{stroke:var(--one)}.line.s1{stroke:var(--two)}.line.s2{stroke:var(--three)}.line.s3{stroke:var(--four)}
.dot.s0,text.s0{fill:var(--one)!important}.dot.s1,text.s1{fill:var(--two)!important}.dot.s2,text.s2{fill:var(--three)!important}
.dot.s3,text.s3{fill:var(--four)!important}.bar{fill:var(--one)}.cell{fill:var(--two)}.cell.right{fill:var(--one)}
svg text.light{fill:var(--paper)}
@media print{body{max-width:none;margin:0}h2{break-after:avoid}table,svg{break-inside:avoid}}
"""
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
        _entities(report, word),
        _numbers(report, word),
        _trust(report, word),
        _slices(report, word),
        _lengths(report, word),
        _errors(report, word, texts, errors_file),
        _run(report, word),
    ]
    name = escape(f"{word['title']}: {report['run']['folder']}")
    head = (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head><body><h1>{name}</h1>"
    )
    return "\n".join([head, *filter(None, sections), "</body></html>", ""])


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Cells that are numbers are aligned; everything is escaped."""
    body = []
    for row in rows:
        cells = (
            f'<td class="n">{cell:.4f}</td>' if isinstance(cell, float)
            else f'<td class="n">{cell}</td>' if isinstance(cell, int) else f"<td>{escape(str(cell))}</td>"
            for cell in row
        )  # fmt: skip
        body.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>" if body else ""


def _section(title: str, *inside: str) -> str:
    content = "".join(inside)
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _charts(*svgs: str) -> str:
    shown = [f"<div>{svg}</div>" for svg in svgs if svg]
    return f'<div class="charts">{"".join(shown)}</div>' if shown else ""


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _verdict(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    own = next((one for one in report["metrics"] if one["metric"] == report["metric"]), None)
    if own is None:
        return ""
    told = f"{own['metric']} {own['value']:.4f} ({word['interval']}: {own['low']:.4f} – {own['high']:.4f}), "
    told += word["of"].format(rows=report["rows"], data=report["data"])
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


def _metrics(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    heads = (word["metric"], word["value"], word["interval"], *report["baselines"])
    rows = [
        (one["metric"], one["value"], f"{one['low']:.4f} – {one['high']:.4f}",
         *(found.get(one["metric"], "") for found in report["baselines"].values()))
        for one in report["metrics"]
    ]  # fmt: skip
    return _section(word["metrics"], _table(heads, rows))


def _curves(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    wanted = ["train/loss", "validation/loss", f"validation/{report['metric']}", "train/learning_rate",
              "train/gradient_norm"]  # fmt: skip
    drawn = [
        charts.lines(name, (word["step"], name), [(name, report["curves"][name])], marks=name.startswith("validation"))
        for name in dict.fromkeys(wanted)
        if len(report["curves"].get(name, ())) > 1
    ]
    return _section(word["curves"], _charts(*drawn[:_MOST_CHARTS]))


def _classes(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    def share(one: Mapping[str, Any], name: str) -> str:
        low, high = one[f"{name}_interval"]
        return f"{one[name]:.3f} ({low:.3f} – {high:.3f})"

    rows = [
        (one["label"], one["rows"], share(one, "precision"), share(one, "recall"), one["f1"])
        for one in report.get("classes", ())
    ]
    table = _table((word["label"], word["rows"], word["precision"], word["recall"], "f1"), rows)
    confusion = report.get("confusion")
    drawn = pairs = ""
    if confusion:
        if confusion["labels"]:
            axes = (word["true"], word["answer"])
            drawn = _charts(charts.matrix(word["confusion"], confusion["labels"], confusion["counts"], axes))
        found = [(one["true"], one["answer"], one["rows"]) for one in confusion["pairs"]]
        if found:
            pairs = f"<h3>{escape(word['confused'])}</h3>" + _table((word["true"], word["answer"], word["rows"]), found)
    return _section(word["classes"], table) + _section(word["confusion"], drawn, pairs)


def _entities(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    kinds = report.get("entity_errors")
    if not kinds:
        return ""
    drawn = charts.bars(word["entities"], [(name, float(count)) for name, count in kinds.items()])
    return _section(word["entities"], _note(word["kinds"]), _charts(drawn))


def _numbers(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    points = [(a, b) for a, b in report.get("numbers", ())[:2000]]
    return _section(
        word["numbers"], _charts(charts.scatter(word["numbers"], (word["true"], word["predicted"]), points))
    )


def _trust(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    found, kept = report.get("reliability"), report.get("coverage")
    if not found or not kept:
        return ""
    bins = [(one["confidence"], one["accuracy"]) for one in found["bins"]]
    diagram = charts.lines(
        word["reliability"], (word["score"], word["accuracy"]), [("", bins)], diagonal=True, up=(0.0, 1.0), marks=True
    )
    notes = _note(word["ece"].format(ece=f"{found['ece']:.3f}"))
    curve = [(one["share"], one["accuracy"]) for one in kept["curve"]]
    drawn = charts.lines(word["coverage"], (word["share"], word["accuracy"]), [("", curve)])
    told = [
        word["automate"].format(accuracy=wanted, share=f"{at['share']:.0%}", score=f"{at['score']:.3f}")
        if at else word["automate_none"].format(accuracy=wanted)
        for wanted, at in kept["automate"].items()
    ]  # fmt: skip
    return _section(word["reliability"], notes, _charts(diagram)) + _section(
        word["coverage"], *map(_note, told), _charts(drawn)
    )


def _slices(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    rows = [
        (one["slice"], one["rows"], f"{one['accuracy']:.3f} ({one['low']:.3f} – {one['high']:.3f})",
         f"{one['difference']:+.3f}", f"{one['p_corrected']:.3f}")
        for one in report["slices"]
    ]  # fmt: skip
    if not rows:
        return ""
    heads = (word["slice"], word["rows"], word["accuracy"], word["difference"], word["corrected"])
    return _section(word["slices"], _table(heads, rows))


def _lengths(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    found = report["lengths"]
    bars = [(f"{one['from']}–{one['to']}", float(one["rows"])) for one in found["bars"]]
    note = _note(word["cut"].format(cut=found["cut"], rows=report["rows"])) if found["cut"] else ""
    return _section(word["lengths"], note, _charts(charts.bars(f"{word['lengths']} ({word['tokens']})", bars)))


def _errors(report: Mapping[str, Any], word: Mapping[str, str], texts: bool, errors_file: str) -> str:
    if not texts:
        return _section(word["errors"], _note(word["hidden"]))
    heads = (word["place"], word["text"], word["true"], word["answer"], word["score"])

    def table(rows: Sequence[Mapping[str, Any]]) -> str:
        return _table(
            heads,
            ((str(one["place"]), one["text"][:600], one["truth"], one["answer"],
              one["score"] if one["score"] is not None else "") for one in rows),
        )  # fmt: skip

    count = word["errors_count"].format(all=report["errors_in_all"], shown=len(report["errors"]), file=errors_file)
    parts = [_section(word["errors"], _note(count), table(report["errors"]))]
    if report.get("suspects"):
        parts.append(_section(word["suspects"], _note(word["suspects_note"]), table(report["suspects"][:50])))
    parts.append(_section(word["contrary"], table(report["contrary"])))
    return "".join(parts)


def _run(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    rows: list[tuple[str, str]] = [("task", str(report["task"]))]
    for name, value in report["run"].items():
        if name == "data":
            rows += [(f"{role} data", f"{one.get('file')}, {one.get('rows')} rows, SHA-256 {one.get('sha256')}")
                     for role, one in value.items() if isinstance(one, Mapping)]  # fmt: skip
        elif value not in (None, ""):
            rows.append((name.replace("_", " "), str(value)))
    return _section(word["run"], _table(("", ""), rows))
