"""``cow`` of a volume: where its snapshots keep what changes, and how much. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from blocksnapd.config_values import Amount, Duration, Frozen, Size, power_of_two
from blocksnapd.units import KIB
from blocksnapd.units import Amount as AmountOf


class CowSettings(Frozen):
    """``cow`` of a volume or of the defaults.

    Without ``size`` the COW device is as large as it can ever need. ``grow_at`` percent full make
    a cycle due, and where that does not help the device grows by ``grow_by`` of its size, up to
    ``max`` (shares are of the volume), as long as ``vg_reserve`` of the space stays free.
    """

    space: str | None = None
    chunk: Annotated[Size, power_of_two(4 * KIB, 512 * KIB)] = 4 * KIB
    freeze_max: Duration = 2.0
    size: Amount | None = None
    grow_at: Annotated[int, Field(ge=10, le=95)] = 70
    grow_by: Amount = AmountOf(share=0.5)
    max: Amount | None = None
    vg_reserve: Amount = AmountOf(share=0.05)


class Cow(Frozen):
    """How a tracked volume's snapshots are made: in which space, with which chunks, how large.

    ``size`` None: as large as they can ever need, so they never grow. ``full_at`` is a share.
    """

    space: str
    chunk_size: int
    freeze_max_s: float
    size: AmountOf | None = None
    full_at: float = 0.7
    grow_by: AmountOf = AmountOf(share=0.5)
    size_max: AmountOf | None = None
    reserve: AmountOf = AmountOf(share=0.05)
