"""The chart of the benchmark as SVG, by hand: bars of time, and the line of cost by the number of sites."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

_WIDTH, _LEFT, _BAR, _GAP = 860, 300, 18, 8
# Readable on both: the page's own background shows through, and the colours change with the reader's scheme.
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2937 } .head { font-weight: 600; font-size: 15px }
.ours { fill: #1d6fd1 } .peer { fill: #9aa3af } .axis { stroke: #9aa3af; stroke-width: 1 }
.line { fill: none; stroke: #1d6fd1; stroke-width: 2 } .small { font-size: 12px }
@media (prefers-color-scheme: dark) { text { fill: #e5e7eb } .ours { fill: #6cb2ff } .line { stroke: #6cb2ff }
.peer { fill: #6b7280 } .axis { stroke: #6b7280 } }
"""

Bar = tuple[str, float, bool]  # what, seconds, whether it is ours


def chart(groups: Sequence[tuple[str, Sequence[Bar]]], growth: Sequence[tuple[int, float, float]]) -> str:
    """One picture: a group of bars for each comparison, then growth as (sites, seconds of CPU, MB)."""
    parts: list[str] = []
    y = 30
    for title, bars in groups:
        parts.append(_text(10, y, title, "head"))
        y += 16
        most = max(seconds for _, seconds, _ in bars)
        for what, seconds, ours in bars:
            width = max(1.0, (_WIDTH - _LEFT - 90) * seconds / most)
            parts.append(_text(_LEFT - 8, y + 13, what, "", "end"))
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" '
                f'class="{"ours" if ours else "peer"}"/>'
            )
            parts.append(_text(_LEFT + width + 6, y + 13, f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"))
            y += _BAR + _GAP
        y += 26
    if growth:
        parts.append(
            _text(10, y, "Cost by the number of sites: seconds of CPU (axes by tens), and peak memory", "head")
        )
        parts += _growth(growth, y + 20, 190)
        y += 270
    title = "exposure-scan beside its peers, shorter is better"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}" role="img" '
        f'aria-label="{title}"><title>{title}</title><style>{_STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _growth(rows: Sequence[tuple[int, float, float]], top: int, height: int) -> list[str]:
    low, high = math.floor(math.log10(rows[0][1])), math.ceil(math.log10(rows[-1][1]))
    first, last = math.log10(rows[0][0]), math.log10(rows[-1][0])
    right, bottom = _WIDTH - 100, top + height

    def x(sites: int) -> float:
        return 80 + (right - 80) * (math.log10(sites) - first) / max(last - first, 1)

    def y(seconds: float) -> float:
        return bottom - height * (math.log10(seconds) - low) / max(high - low, 1)

    parts = [f'<path class="axis" d="M80 {top}V{bottom}H{right}" fill="none"/>']
    tens = [10.0**power for power in range(low, high + 1)]
    parts += [_text(72, y(ten) + 4, f"{ten:g} s", "small", "end") for ten in tens]
    path = "L".join(f"{x(sites):.1f} {y(cpu):.1f}" for sites, cpu, _ in rows)
    parts.append(f'<path class="line" d="M{path}"/>')
    for sites, cpu, mb in rows:
        parts.append(f'<circle class="ours" cx="{x(sites):.1f}" cy="{y(cpu):.1f}" r="4"/>')
        parts.append(_text(x(sites), bottom + 18, f"{sites:,} sites", "small", "middle"))
        parts.append(_text(x(sites), bottom + 34, f"{cpu:.1f} s, {mb:.0f} MB", "small", "middle"))
    return parts


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'
