"""Units: bytes, sectors and seconds, between text and numbers. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

SECTOR_SIZE = 512
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

_SIZE_UNITS = {
    "": 1, "b": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB,
    "t": TIB, "tib": TIB, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4,
}  # fmt: skip
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class Amount(NamedTuple):
    """Bytes, or a share (0 to 1) of something whose size is not known yet; one of them is None."""

    size: int | None = None
    share: float | None = None

    def of(self, whole: int) -> int:
        """Return the bytes that it is of ``whole``."""
        return self.size if self.size is not None else int((self.share or 0.0) * whole)

    def __str__(self) -> str:
        """Return it as the configuration writes it."""
        return format_size(self.size) if self.size is not None else f"{self.share or 0.0:.4%}"


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` such as ``"64 KiB"``, ``"10G"`` or ``"512"`` names.

    Raises:
        ValueError: not a number with a known unit, or not a whole number of bytes.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is not a size; write it like '64 KiB', '10 GiB' or '512'")
    size = float(match[1]) * unit
    if size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def parse_rate(text: str) -> int:
    """Return the bytes per second that ``text`` such as ``"40 MiB/s"`` names.

    Raises:
        ValueError: not a size with ``/s`` behind it.
    """
    size, slash, second = text.rpartition("/")
    if not slash or second.strip() != "s":
        raise ValueError(f"{text!r} is not a rate; write it like '40 MiB/s'")
    return parse_size(size)


def parse_share(text: str) -> float:
    """Return the fraction, 0 to 1, that a text like ``5%`` says.

    Raises:
        ValueError: not such a text.
    """
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?) ?%", text.strip())
    if not found or float(found[1]) > 100:
        raise ValueError(f"{text!r} is not a share from 0% to 100%; write it like '5%'")
    return float(found[1]) / 100


def parse_amount(text: str) -> Amount:
    """Return what ``text`` such as ``"10%"`` or ``"10 GiB"`` names.

    Raises:
        ValueError: neither a share nor a size.
    """
    if text.strip().endswith("%"):
        return Amount(share=parse_share(text))
    return Amount(size=parse_size(text))


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` such as ``"5m"``, ``"1h30m"`` or ``"250ms"`` names.

    Raises:
        ValueError: not a sequence of numbers with the units ms, s, m, h, d, w.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])", text)
    if not parts or re.sub(r"\s", "", text) != "".join(n + u for n, u in parts):
        raise ValueError(f"{text!r} is not a duration; write it like '5m', '1h30m' or '10s'")
    return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)


def format_size(size: float) -> str:
    """Return ``size`` bytes for people: ``"1.6 GiB"``, ``"412 MiB"``, ``"0 B"``."""
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1000 or unit == "PiB":
            break
        value /= 1024
    digits = 0 if unit == "B" or abs(value) >= 100 else 1
    return f"{value:.{digits}f} {unit}"


def format_count(count: int, noun: str) -> str:
    """Return ``count`` things for people: ``"1 volume"``, ``"2 volumes"``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_duration(seconds: float) -> str:
    """Return ``seconds`` for people: ``"42 ms"``, ``"6.1s"``, ``"1m12s"``, ``"12d 4h"``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"
