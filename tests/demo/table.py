"""The table at the end of the demo. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from blocksnapd.units import format_size


@dataclass(frozen=True)
class Row:
    """One point: bytes and seconds; None where it was not seen."""

    point: str
    time: str
    method: str
    changed: int
    shipped: int
    stored: int
    suspend_s: float | None
    cycle_s: float | None
    compared: str
    label: str


HEAD = ("POINT", "TIME", "HOW", "CHANGED", "SHIPPED", "STORED", "SUSPEND", "CYCLE", "COMPARED", "")


def render(rows: list[Row]) -> str:
    """Return the table as text; numbers to the right."""
    cells = [HEAD] + [
        (
            r.point, r.time, r.method, format_size(r.changed), format_size(r.shipped),
            format_size(r.stored), _ms(r.suspend_s), _ms(r.cycle_s), r.compared or "-", r.label,
        )
        for r in rows
    ]  # fmt: skip
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEAD))]
    right = range(3, 8)
    lines = [
        "  ".join(
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n" + "\n".join(lines) + "\n"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"
