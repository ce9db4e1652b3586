"""Charts as SVG text: axes, lines, bars, cells. Pure.

Colours are classes of the page around it, so that light, dark and paper need no other drawing.
Every text is escaped here; whoever draws hands in plain text.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

WIDTH: Final = 720
LEFT: Final = 74  # room for the labels of the vertical axis
BOTTOM: Final = 24
TOP: Final = 8
RIGHT: Final = 10
_TICKS: Final = 4


@dataclass(frozen=True, slots=True)
class Frame:
    """Where values lie in a chart: ``x`` from ``x0`` to ``x1``, ``y`` from 0 to ``y1``."""

    x0: float
    x1: float
    y1: float
    height: int = 190

    def x(self, value: float) -> float:
        """Return the place of ``value`` from the left."""
        span = (self.x1 - self.x0) or 1.0
        return LEFT + (value - self.x0) / span * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the place of ``value`` from the top."""
        share = value / (self.y1 or 1.0)
        return TOP + (1 - share) * (self.height - TOP - BOTTOM)

    def axes(self, x_text: Callable[[float], str], y_text: Callable[[float], str]) -> str:
        """Return grid lines with what they mean."""
        parts = []
        for step in range(_TICKS + 1):
            value = self.y1 * step / _TICKS
            parts.append(line(LEFT, self.y(value), WIDTH - RIGHT, self.y(value), "grid"))
            parts.append(text(LEFT - 6, self.y(value) + 4, y_text(value), "end"))
        for step, anchor in ((0, "start"), (1, "middle"), (2, "end")):
            value = self.x0 + (self.x1 - self.x0) * step / 2
            parts.append(text(self.x(value), self.height - 6, x_text(value), anchor))
        return "".join(parts)


def drawing(height: int, title: str, parts: Iterable[str]) -> str:
    """Return a whole drawing; ``title`` is what a screen reader says of it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a straight line of the class ``kind``."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{escape(kind)}"/>'


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Return words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def path(points: Sequence[tuple[float, float]], kind: str) -> str:
    """Return a line through places."""
    if not points:
        return ""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{steps}" class="{escape(kind)}"/>'


def box(x: float, y: float, width: float, height: float, kind: str, about: str = "") -> str:
    """Return a filled box; ``about`` is told where a pointer rests on it."""
    title = f"<title>{escape(about)}</title>" if about else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.2f}" height="{max(height, 0):.2f}"'
        f' class="{escape(kind)}">{title}</rect>'
    )
