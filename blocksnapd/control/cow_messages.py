"""What is told of a volume's COW device. Pure.

Rule of this file: the standard library only, and little of it, as in ``messages``.
"""

from __future__ import annotations

from typing import TypedDict


class CowUse(TypedDict, total=False):
    """How full the COW device of a volume's snapshot is; of the fuller one while there are two.

    ``rate`` is what it fills by, in bytes a second; ``full_in`` the seconds until it is full if
    that goes on, None while it does not fill. ``is_lost``: the kernel gave the snapshot up, the
    next cycle compares the whole volume. ``advised`` is how large ``cow.size`` should be as far
    as was seen, None as long as that is not known; ``advice`` says so where it is too small.
    """

    size: int
    used: int
    rate: float
    full_in: float | None
    is_lost: bool
    advised: int | None
    advice: str
