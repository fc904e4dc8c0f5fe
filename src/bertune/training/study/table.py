"""The figures of several runs as one table: for people, as CSV, and as LaTeX."""

import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertune.files.atomic_write import write_text
from bertune.tables import PlainTable, plain_table

AVERAGE = "average"
_LATEX = str.maketrans(
    {character: rf"\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


@dataclass(frozen=True)
class Figure:
    """One metric of one run with one seed."""

    run: str
    task: str
    encoder: str
    seed: int
    metric: str
    value: float


@dataclass(frozen=True)
class Row:
    """A metric of a run over its seeds. deviation: of the sample; None with one seed."""

    run: str
    task: str
    metric: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the sample; None with one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


def rows_of(figures: Iterable[Figure]) -> list[Row]:
    """The figures over seeds, run by run, and the average of all runs: of each the mean of its metrics."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for one in figures:
        values.setdefault((one.run, one.task, one.metric), []).append(one.value)
    rows = [Row(*key, tuple(found)) for key, found in values.items()]
    means: dict[str, list[float]] = {}
    for row in rows:
        means.setdefault(row.run, []).append(row.mean)
    if len(means) > 1:
        rows.append(Row(AVERAGE, "", "", (statistics.fmean(map(statistics.fmean, means.values())),)))
    return rows


def table(title: str, rows: Sequence[Row]) -> PlainTable:
    """For people. sd: the standard deviation of the sample."""
    tasks = any(row.task not in (row.run, "") for row in rows)
    cells = (
        (
            row.run,
            *((row.task,) if tasks else ()),
            row.metric,
            f"{row.mean:.4f}",
            "" if row.deviation is None else f"{row.deviation:.4f}",
            "" if row.run == AVERAGE else str(len(row.values)),
            f"{min(row.values):.4f} to {max(row.values):.4f}" if row.deviation is not None else "",
        )
        for row in rows
    )
    names = ("run", *(("task",) if tasks else ()), "metric")
    return plain_table(title, (*names, "mean", "sd", "seeds", "range"), cells, keys=len(names))


def to_csv(rows: Sequence[Row]) -> str:
    """A line a row: run, task, metric, mean, standard deviation, number of seeds."""
    lines = (
        (row.run, row.task, row.metric, row.mean, "" if row.deviation is None else row.deviation, len(row.values))
        for row in rows
    )
    return _csv(("run", "task", "metric", "mean", "standard_deviation", "seeds"), lines)


def figures_to_csv(figures: Sequence[Figure]) -> str:
    """A line a figure, for further work."""
    lines = ((one.run, one.task, one.encoder, one.seed, one.metric, one.value) for one in figures)
    return _csv(("run", "task", "encoder", "seed", "metric", "value"), lines)


def _csv(heads: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(lines)
    return text.getvalue()


def to_latex(rows: Sequence[Row], caption: str) -> str:
    r"""A table for \usepackage{booktabs}: metrics in hundredths, as papers give them; errors as they are."""
    lines = [
        r"\begin{table}",
        rf"\caption{{{_escaped(caption)}}}",
        r"\begin{tabular}{lllrr}",
        r"\toprule",
        r"run & task & metric & mean & seeds \\",
        r"\midrule",
    ]
    for row in rows:
        if row.run == AVERAGE:
            lines.append(r"\midrule")
        cells = [_escaped(row.run), _escaped(row.task), _escaped(row.metric.replace("_", " ")), _shown(row)]
        cells.append("" if row.run == AVERAGE else str(len(row.values)))
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _shown(row: Row) -> str:
    scale = 100 if all(-1 <= value <= 1 for value in row.values) else 1
    if row.deviation is None:
        return f"${scale * row.mean:.1f}$"
    return rf"${scale * row.mean:.1f} \pm {scale * row.deviation:.1f}$"


def _escaped(text: str) -> str:
    return text.translate(_LATEX)


def write_tables(folder: Path, figures: Sequence[Figure], text: str, caption: str) -> None:
    """table.txt, table.csv, table.tex, and figures.csv with every single one."""
    rows = rows_of(figures)
    write_text(folder / "table.txt", text)
    write_text(folder / "table.csv", to_csv(rows))
    write_text(folder / "table.tex", to_latex(rows, caption))
    write_text(folder / "figures.csv", figures_to_csv(figures))
