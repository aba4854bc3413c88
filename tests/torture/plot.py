"""Curves as SVG, without a library: one small panel a curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, PANEL, LEFT, GAP = 720, 110, 90, 44


class Curve(NamedTuple):
    """What is drawn in one panel."""

    title: str
    values: Sequence[float]


def svg(heading: str, minutes: Sequence[float], curves: Sequence[Curve]) -> str:
    """A drawing of curves over the same minutes; every panel begins at zero, so that flat looks flat."""
    height = GAP + len(curves) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{escape(heading)}</text>',
    ]
    for index, curve in enumerate(curves):
        parts += _panel(GAP + index * (PANEL + GAP), minutes, curve)
    return "\n".join([*parts, "</svg>", ""])


def _panel(top: float, minutes: Sequence[float], curve: Curve) -> list[str]:
    most = max(curve.values) or 1.0
    last = minutes[-1] or 1.0
    across, bottom = WIDTH - LEFT - 20, top + PANEL
    points = " ".join(
        f"{LEFT + across * minute / last:.1f},{bottom - PANEL * value / (most * 1.1):.1f}"
        for minute, value in zip(minutes, curve.values, strict=True)
    )
    line_at = bottom - PANEL / 1.1
    return [
        f'<text x="{LEFT}" y="{top - 4:g}" font-size="12">{escape(curve.title)}</text>',
        f'<path d="M{LEFT},{top} V{bottom} H{LEFT + across}" fill="none" stroke="#555"/>',
        f'<path d="M{LEFT},{line_at:.1f} H{LEFT + across}" stroke="#ddd"/>',
        f'<text x="{LEFT - 6}" y="{line_at + 4:.1f}" font-size="11" text-anchor="end">{most:,.0f}</text>',
        f'<text x="{LEFT - 6}" y="{bottom}" font-size="11" text-anchor="end">0</text>',
        f'<text x="{LEFT + across}" y="{bottom + 14:g}" font-size="11" text-anchor="end">{last:.0f} min</text>',
        f'<polyline points="{points}" fill="none" stroke="#1663a9" stroke-width="1.5"/>',
    ]
