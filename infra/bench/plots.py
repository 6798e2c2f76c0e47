"""Plots as SVG, written by hand: bars made of parts, curves of shares, and lines over time. Pure functions."""

import math
from collections.abc import Sequence
from html import escape

from infra.bench.figures import Bars, Curves, Lines, Plot
from infra.demo.latency import percentile

_WIDTH, _LEFT, _RIGHT, _TOP, _LINE = 860, 210, 70, 34, 30
_PLOT_HEIGHT = 260
_STEPS = 5
_COLOURS = ("#3b6fb6", "#d1782f", "#4a9a5b", "#a9527f", "#7a6bb0", "#8a8a8a", "#b8a13a", "#3fa3a3")
_SHARES = [0.0, *(each / 100 for each in range(1, 100)), 0.995, 0.999, 1.0]


def svg(plot: Plot) -> str:
    """Return the plot as the text of a file."""
    if isinstance(plot, Bars):
        return _bars(plot)
    return _curves(plot) if isinstance(plot, Curves) else _lines(plot)


def _bars(plot: Bars) -> str:
    parts = list(dict.fromkeys(name for bar in plot.bars.values() for name in bar))
    colours = dict(zip(parts, (_COLOURS[number % len(_COLOURS)] for number in range(len(parts))), strict=True))
    longest = max((sum(_drawn(value) for value in bar.values()) for bar in plot.bars.values()), default=0.0) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    drawn = []
    for number, (name, bar) in enumerate(plot.bars.items()):
        top, at = _TOP + number * _LINE, float(_LEFT)
        drawn.append(_text(_LEFT - 8, top + 16, name, anchor="end"))
        for part, value in bar.items():
            width = _drawn(value) * scale
            title = f"<title>{escape(part)}: {_drawn(value):.0f} {escape(plot.unit)}</title>"
            drawn.append(f'<rect x="{at:.1f}" y="{top}" width="{width:.1f}" height="22" fill="{colours[part]}">{title}</rect>')
            at += width
        drawn.append(_text(at + 6, top + 16, f"{sum(_drawn(value) for value in bar.values()):.0f} {plot.unit}"))
    below = _TOP + len(plot.bars) * _LINE + 12
    drawn += _legend(colours, below)
    return _page(plot.title, drawn, height=below + 24)


def _curves(plot: Curves) -> str:
    values = [value for each in plot.values_ms.values() for value in each if value > 0]
    low = math.floor(math.log10(min(values, default=1.0)))
    high = max(low + 1, math.ceil(math.log10(max(values, default=10.0))))
    width = _WIDTH - 60 - _RIGHT

    def across(value: float) -> float:
        return 60 + width * (math.log10(max(value, 10.0**low)) - low) / (high - low)

    def down(share: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - share)

    drawn = []
    for exponent in range(low, high + 1):
        x = across(10.0**exponent)
        drawn.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_TOP + _PLOT_HEIGHT}" stroke="#ccc"/>')
        drawn.append(_text(x, _TOP + _PLOT_HEIGHT + 16, f"{10.0**exponent:g} ms", anchor="middle"))
    for share in (0.5, 0.9, 0.99):
        y = down(share)
        drawn.append(f'<line x1="60" y1="{y:.1f}" x2="{60 + width}" y2="{y:.1f}" stroke="#ccc" stroke-dasharray="3 3"/>')
        drawn.append(_text(54, y + 4, f"{share * 100:.0f} %", anchor="end"))
    colours = dict(zip(plot.values_ms, _COLOURS, strict=False))
    for name, each in plot.values_ms.items():
        points = " ".join(f"{across(x):.1f},{down(share):.1f}" for x, share in shares(each))
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
    below = _TOP + _PLOT_HEIGHT + 30
    drawn += _legend(colours, below)
    return _page(plot.title, drawn, height=below + 24)


def _lines(plot: Lines) -> str:
    points = [point for each in plot.points.values() for point in each]
    last = max((minutes for minutes, _ in points), default=0.0) or 1.0
    top = max((value for _, value in points), default=0.0) or 1.0
    width = _WIDTH - 60 - _RIGHT

    def place(minutes: float, value: float) -> tuple[float, float]:
        return 60 + width * minutes / last, _TOP + _PLOT_HEIGHT * (1 - value / top)

    drawn = []
    for step in range(_STEPS + 1):
        x, y = place(last * step / _STEPS, top * step / _STEPS)
        drawn.append(f'<line x1="60" y1="{y:.1f}" x2="{60 + width}" y2="{y:.1f}" stroke="#ccc" stroke-dasharray="3 3"/>')
        drawn.append(_text(54, y + 4, f"{top * step / _STEPS:.0f}", anchor="end"))
        drawn.append(_text(x, _TOP + _PLOT_HEIGHT + 16, f"{last * step / _STEPS:.1f} min", anchor="middle"))
    colours = dict(zip(plot.points, _COLOURS, strict=False))
    for name, each in plot.points.items():
        line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in each)
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
    below = _TOP + _PLOT_HEIGHT + 30
    drawn += _legend(colours, below)
    return _page(f"{plot.title}, {plot.unit}", drawn, height=below + 24)


def shares(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return points of a curve: a value, and the share of values that do not exceed it."""
    ordered = sorted(values)
    return [(percentile(ordered, share), share) for share in _SHARES] if ordered else []


def _drawn(value: float) -> float:
    return 0.0 if math.isnan(value) else max(0.0, value)


def _legend(colours: dict[str, str], top: float) -> list[str]:
    drawn, at = [], 60.0
    for name, colour in colours.items():
        drawn.append(f'<rect x="{at:.0f}" y="{top}" width="12" height="12" fill="{colour}"/>')
        drawn.append(_text(at + 17, top + 11, name))
        at += 34 + 7 * len(name)
    return drawn


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _page(title: str, drawn: Sequence[str], *, height: float) -> str:
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" font-family="sans-serif" font-size="12">',
            f'<rect width="{_WIDTH}" height="{height:.0f}" fill="#fff"/>',
            f'<text x="12" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
            *drawn,
            "</svg>\n",
        )
    )
