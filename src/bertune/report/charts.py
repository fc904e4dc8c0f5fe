"""Charts as SVG text, readable by screen readers (a title, and one for every mark) and without scripts.

Colours are the page's CSS variables, so that charts follow its light or dark form.
"""

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 420, 240
_LEFT, _TOP, _RIGHT, _BOTTOM = 62, 12, 24, 34
_LABEL = 20
"""What the label of the axis up takes from the left, with the gap between ticks and axis."""
_CHARACTER = 7
"""Width of a digit in a font of 11 pixels, as wide fonts have it."""

Point = tuple[float, float]
"""Across, up."""

STYLE = """
:root{color-scheme:light dark;--ink:#1c1c1c;--soft:#666;--paper:#fff;--line:#ddd;--one:#2f6db5;--two:#c4630b;
--three:#2e8b57;--four:#8a4fa3}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--soft:#aaa;--paper:#191919;--line:#444;--one:#7fb0e8;--two:#eda35f;
--three:#7cc79b;--four:#c79be0}}
@media print{:root{color-scheme:light;--ink:#1c1c1c;--soft:#555;--paper:#fff;--line:#ccc;--one:#2f6db5;--two:#c4630b;
--three:#2e8b57;--four:#8a4fa3}}
svg{font:11px system-ui,sans-serif}.paper{fill:var(--paper)}
svg text{fill:var(--ink)}svg .axis{fill:none;stroke:var(--soft)}
svg .guide{fill:none;stroke:var(--soft);stroke-dasharray:4 3}svg .line{fill:none;stroke-width:2}
.line.s0{stroke:var(--one)}.line.s1{stroke:var(--two)}.line.s2{stroke:var(--three)}.line.s3{stroke:var(--four)}
.dot.s0,text.s0{fill:var(--one)!important}.dot.s1,text.s1{fill:var(--two)!important}.dot.s2,text.s2{fill:var(--three)!important}
.dot.s3,text.s3{fill:var(--four)!important}.bar{fill:var(--one)}.cell{fill:var(--two)}.cell.right{fill:var(--one)}
svg text.light{fill:var(--paper)}
"""
"""Colours, light and dark, and what charts are drawn in."""


def _number(value: float) -> str:
    """Three digits, or all of a step's; below a thousandth with an exponent throughout: 1.94e-4, 9.86e-5."""
    if 999.5 <= abs(value) < 1e6:
        return f"{value:.0f}"
    small = 0 < abs(value) < 1e-3
    digits, e, power = (f"{value:.2e}" if small else f"{value:.3g}").partition("e")
    return f"{float(digits):g}e{int(power)}" if e else digits


class _Plane:
    """From values to places in the picture."""

    def __init__(self, across: tuple[float, float], up: tuple[float, float]) -> None:
        self.across, self.up = _widened(across), _widened(up)
        longest = max(len(_number(value)) for value in self._ticks(self.up))
        self.left = max(_LEFT, _LABEL + _CHARACTER * longest)

    @staticmethod
    def _ticks(limits: tuple[float, float]) -> list[float]:
        low, high = limits
        return [low + (high - low) * step / 4 for step in range(5)]

    def at(self, point: Point) -> Point:
        (low, high), (under, over) = self.across, self.up
        x = self.left + (WIDTH - self.left - _RIGHT) * (point[0] - low) / (high - low)
        y = HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (point[1] - under) / (over - under)
        return x, y

    def axes(self, labels: tuple[str, str]) -> str:
        bottom = HEIGHT - _BOTTOM
        parts = [f'<path class="axis" d="M{self.left} {_TOP}V{bottom}H{WIDTH - _RIGHT}"/>']
        for across, up in zip(self._ticks(self.across), self._ticks(self.up), strict=True):
            x, y = self.at((across, up))
            parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{_number(across)}</text>')
            parts.append(f'<text x="{self.left - 5}" y="{y + 4:.1f}" text-anchor="end">{_number(up)}</text>')
        parts.append(
            f'<text x="{(WIDTH + self.left) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(labels[0])}</text>'
        )
        parts.append(f'<text x="12" y="{(HEIGHT - _BOTTOM) / 2}" text-anchor="middle" '
                     f'transform="rotate(-90 12 {(HEIGHT - _BOTTOM) / 2})">{escape(labels[1])}</text>')  # fmt: skip
        return "".join(parts)


def _widened(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _svg(title: str, inside: str, height: int = HEIGHT, width: int = WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{1.4 * width:.0f}px" role="img" '
        f'xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title>{inside}</svg>"
    )


def lines(
    title: str, labels: tuple[str, str], series: Sequence[tuple[str, Sequence[Point]]], *, diagonal: bool = False,
    up: tuple[float, float] | None = None, across: tuple[float, float] | None = None, marks: bool = False,
) -> str:  # fmt: skip
    """One line a series; at most four.

    Args:
        title: read by screen readers.
        labels: of the axes, across and up.
        series: names and points.
        diagonal: also the line of equal values, both axes from 0 to 1.
        up: limits of the axis up, where they do not follow from the points.
        across: limits of the axis across, likewise.
        marks: a dot at every point.
    """
    points = [point for _, some in series for point in some]
    if not points:
        return ""
    across = (0.0, 1.0) if diagonal else across or (min(x for x, _ in points), max(x for x, _ in points))
    plane = _Plane(across, up or (min(y for _, y in points), max(y for _, y in points)))
    parts = [plane.axes(labels)]
    if diagonal:
        (x, y), (x2, y2) = plane.at((0, 0)), plane.at((1, 1))
        parts.append(f'<path class="guide" d="M{x:.1f} {y:.1f}L{x2:.1f} {y2:.1f}"/>')
    for number, (name, some) in enumerate(series):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(plane.at, some))
        parts.append(f'<polyline class="line s{number}" points="{path}"><title>{escape(name)}</title></polyline>')
        if marks:
            for point in some:
                x, y = plane.at(point)
                told = escape(f"{name}: {_number(point[0])}, {_number(point[1])}")
                parts.append(
                    f'<circle class="dot s{number}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{told}</title></circle>'
                )
        if len(series) > 1:
            parts.append(f'<text class="s{number}" x="{WIDTH - _RIGHT}" y="{_TOP + 12 + 14 * number}" '
                         f'text-anchor="end">{escape(name)}</text>')  # fmt: skip
    return _svg(title, "".join(parts))


def scatter(title: str, labels: tuple[str, str], points: Sequence[Point]) -> str:
    """A dot a point, and the line of equal values."""
    if not points:
        return ""
    every = [value for point in points for value in point]
    plane = _Plane((min(every), max(every)), (min(every), max(every)))
    (x, y), (x2, y2) = plane.at((min(every), min(every))), plane.at((max(every), max(every)))
    dots = "".join(f'<circle class="dot s0" cx="{a:.1f}" cy="{b:.1f}" r="2"/>' for a, b in map(plane.at, points))
    guide = f'<path class="guide" d="M{x:.1f} {y:.1f}L{x2:.1f} {y2:.1f}"/>'
    return _svg(title, plane.axes(labels) + guide + dots)


def histogram(
    title: str, labels: tuple[str, str], edges: Sequence[float], series: Sequence[tuple[str, Sequence[float]]]
) -> str:
    """Bars between edges, those of several series over one another; at most four series.

    Args:
        title: read by screen readers.
        labels: of the axes, across and up.
        edges: of the bins, one more than there are bins.
        series: names and a value a bin.
    """
    if len(edges) < 2:
        return ""
    most = max((value for _, values in series for value in values), default=0.0)
    plane = _Plane((edges[0], edges[-1]), (0.0, most or 1.0))
    parts = [plane.axes(labels)]
    for number, (name, values) in enumerate(series):
        for left, right, value in zip(edges, edges[1:], values, strict=False):
            (x, y), (x2, bottom) = plane.at((left, value)), plane.at((right, 0.0))
            told = escape(f"{name}: {_number(left)} – {_number(right)}: {_number(value)}")
            if value:
                parts.append(
                    f'<rect class="dot s{number}" fill-opacity="0.5" x="{x:.1f}" y="{y:.1f}" '
                    f'width="{max(x2 - x - 1, 0.5):.1f}" height="{bottom - y:.1f}"><title>{told}</title></rect>'
                )
        parts.append(f'<text class="s{number}" x="{WIDTH - _RIGHT}" y="{_TOP + 12 + 14 * number}" '
                     f'text-anchor="end">{escape(name)}</text>')  # fmt: skip
    return _svg(title, "".join(parts))


def progress(
    title: str,
    labels: tuple[str, str],
    points: Sequence[tuple[float, float, str]],
    line: Sequence[Point],
    level: tuple[float, str] | None = None,
) -> str:
    """Points with a text each, a line through others, and a level across the chart.

    Args:
        title: read by screen readers.
        labels: of the axes, across and up.
        points: across, up, and what the point is.
        line: across, up.
        level: where, and what it is.
    """
    if not points:
        return ""
    values = [value for _, value, _ in points] + ([] if level is None else [level[0]])
    low, high = min(values), max(values)
    margin = 0.08 * ((high - low) or max(abs(high), 1.0) * 0.1)
    plane = _Plane((0.0, max(across for across, _, _ in points)), (low - margin, high + margin))
    parts = [plane.axes(labels)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(plane.at, line))
    parts.append(f'<polyline class="line s0" points="{path}"/>')
    for across, up, text in points:
        x, y = plane.at((across, up))
        parts.append(
            f'<circle class="dot s0" fill-opacity="0.7" cx="{x:.1f}" cy="{y:.1f}" r="4">'
            f"<title>{escape(text)}</title></circle>"
        )
    if level is not None:
        _, y = plane.at((0.0, level[0]))
        parts.append(
            f'<path class="line s1" stroke-dasharray="5 4" d="M{plane.left} {y:.1f}H{WIDTH - _RIGHT}">'
            f"<title>{escape(level[1])}</title></path>"
        )
    return _svg(title, "".join(parts))


def standalone(svg: str) -> str:
    """A chart as a file of its own: with the style that a page would give it, on a background."""
    if not svg:
        return svg
    before, rest = svg.split("</title>", 1)
    return f'{before}</title><style>{STYLE}</style><rect class="paper" width="100%" height="100%"/>{rest}\n'


def bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """A horizontal bar a name, with its value."""
    if not values:
        return ""
    most = max((value for _, value in values), default=0.0) or 1.0
    parts = []
    for place, (name, value) in enumerate(values):
        y, length = 4 + 20 * place, 220 * value / most
        parts.append(
            f'<text x="116" y="{y + 12}" text-anchor="end">{escape(name[:20])}</text>'
            f'<rect class="bar" x="122" y="{y}" width="{length:.1f}" height="15">'
            f"<title>{escape(f'{name}: {_number(value)}')}</title></rect>"
            f'<text x="{126 + length:.1f}" y="{y + 12}">{_number(value)}</text>'
        )
    return _svg(title, "".join(parts), height=8 + 20 * len(values))


def matrix(title: str, labels: Sequence[str], counts: Sequence[Sequence[int]], axes: tuple[str, str]) -> str:
    """A square of counts, shaded by the share of each row."""
    size, left, top = 34, 110, 30
    side = left + size * len(labels) + 8
    parts = [f'<text x="{left}" y="12">{escape(axes[1])} →</text><text x="4" y="{top + 14}">{escape(axes[0])} ↓</text>']
    for i, name in enumerate(labels):
        parts.append(f'<text x="{left - 6}" y="{top + size * i + 26}" text-anchor="end">{escape(name[:14])}</text>')
        parts.append(
            f'<text x="{left + size * i + size / 2}" y="{top - 4}" text-anchor="middle">{escape(name[:4])}</text>'
        )
        whole = sum(counts[i]) or 1
        for j, count in enumerate(counts[i]):
            share = count / whole
            told = f"<title>{escape(f'{axes[0]} {name}, {axes[1]} {labels[j]}: {count}')}</title>"
            parts.append(
                f'<rect class="cell{" right" if i == j else ""}" x="{left + size * j}" y="{top + size * i}" '
                f'width="{size - 1}" height="{size - 1}" fill-opacity="{0.06 + 0.94 * share:.3f}">{told}</rect>'
            )
            if count:
                parts.append(f'<text class="{"light" if share > 0.55 else ""}" x="{left + size * j + size / 2}" '
                             f'y="{top + size * i + 21}" text-anchor="middle">{count}</text>')  # fmt: skip
    return _svg(title, "".join(parts), height=top + size * len(labels) + 8, width=side)
