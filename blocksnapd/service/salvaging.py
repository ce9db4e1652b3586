"""What a restore does about a point that is damaged: count, refuse, or list what is lost. Blocking.

Nothing is ever left out silently. Without ``allow_damaged`` a damaged point is refused, with how
much of it is lost and the nearest points that need nothing of what is damaged. With it, a file of
JSON lines is written before anything else: what was restored, then each range of bytes that is
lost; these ranges hold zeros in what is restored.
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Final

from blocksnapd.control.messages import SCHEMA, format_time
from blocksnapd.errors import (
    CancelledRunError,
    ChecksumError,
    FormatError,
    HostError,
    NotFoundError,
    RefusedError,
    StoreError,
)
from blocksnapd.runtime import durable
from blocksnapd.store.salvage import Damage, spoils
from blocksnapd.units import format_count, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blocksnapd.control.messages import Point
    from blocksnapd.errors import BlocksnapError
    from blocksnapd.model import RestorePoint
    from blocksnapd.service.runs import LiveRun
    from blocksnapd.service.worker_points import WorkerPoints
    from blocksnapd.store.image import Image
    from blocksnapd.store.runs import Runs

LOOKED_AT_MAX: Final = 8  # points on each side, for one that is whole
_LIST_HEAD: Final = b'{"schema": 1, "type": "damaged", '
_UNTOUCHED: Final = "Nothing was written."


def survey(
    image: Image, points: WorkerPoints, run: LiveRun, cancelled: Callable[[], bool]
) -> Damage:
    """Read everything that ``image`` needs and return what is lost of it.

    Raises:
        CancelledRunError: ``cancelled`` said so. StoreError: the repository is not there any more.
    """
    run.phase = "survey"

    def progress(done: int, total: int) -> None:
        if cancelled():
            raise CancelledRunError("The restore was cancelled.")
        run.done_bytes, run.expected_bytes = done * image.block_size, total * image.block_size

    damage = image.damage(progress)
    if damage:
        points.repository.load_point(image.point.name)  # or it is all gone, not damaged
    return damage


def refusal(
    image: Image, damage: Damage, points: WorkerPoints, *, error: BlocksnapError | None = None
) -> ChecksumError:
    """Return why ``image`` is not restored, and what could be instead.

    ``error`` is what a restore met before all the damage was known.
    """
    lost = lost_bytes(image, damage)
    ranges = format_count(len(damage.lost), "range")
    point_id = image.point.facts.point_id
    near = _near(image.point, damage, points)
    anyway = (
        "To take this one without them: --allow-damaged. What the volume still has is shipped "
        "again by its next cycle, and heals it."
    )
    return ChecksumError(
        f"{format_size(lost)} ({lost} bytes in {ranges}) of {point_id} are damaged in the "
        f"repository: {damage.problems[0] if damage.problems else 'it cannot be read'}",
        effect=error.effect if error else _UNTOUCHED,
        hint="\n".join([*near, anyway]),
    )


def unreadable(
    point: RestorePoint, points: WorkerPoints, error: BlocksnapError
) -> ChecksumError:  # fmt: skip
    """Return why ``point`` cannot be opened at all, not even around what is damaged."""
    nothing = "Where its content lies is not known any more, so nothing of it can be given."
    return ChecksumError(
        f"{point.facts.point_id} cannot be opened: {error.message}",
        effect=f"{nothing} {_UNTOUCHED}",
        hint="\n".join(_near(point, Damage(), points)),
    )


def _near(point: RestorePoint, damage: Damage, points: WorkerPoints) -> list[str]:
    """Return the nearest points that are whole, a line each with a heading; or that none is."""
    lines = [f"{p['id']}  {p['time']}" for p in whole_beside(point, damage, points)]
    if not lines:
        return [f"None of the {LOOKED_AT_MAX} points on either side of it is without that damage."]
    return ["The nearest points that need none of what is damaged:", *lines]


def whole_beside(point: RestorePoint, damage: Damage, points: WorkerPoints) -> Iterator[Point]:
    """Yield the nearest point on each side of ``point`` that needs nothing of what is damaged."""
    for side in points.beside(point):
        for other in side[:LOOKED_AT_MAX]:
            if _is_whole(other, damage, points):
                yield other
                break


def _is_whole(point: Point, damage: Damage, points: WorkerPoints) -> bool:
    try:
        image = points.open_image(point["id"])
        return not spoils(image.map, damage.slots)
    except (FormatError, StoreError, NotFoundError):
        return False


def lost_bytes(image: Image, damage: Damage) -> int:
    """Return how many bytes of ``image`` are lost."""
    return sum(end - start for start, end in _bytes(image, damage.lost))


def check_place(path: str) -> None:
    """Make sure that a list may be written to ``path``.

    Raises:
        RefusedError: something else is there.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise _taken(path)
        with open(path, "rb") as file:
            if not _LIST_HEAD.startswith(file.read(len(_LIST_HEAD))):
                raise _taken(path)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(path)):
            raise RefusedError(
                f"the list of what is damaged cannot be {path}: there is no such directory",
                effect=_UNTOUCHED, hint="Name another file: --damaged-list FILE.",
            ) from None  # fmt: skip
    except OSError as error:
        raise RefusedError(
            f"the list of what is damaged cannot be {path}: {error.strerror}",
            effect=_UNTOUCHED, hint="Name another file: --damaged-list FILE.",
        ) from error  # fmt: skip


def write_list(path: str, image: Image, damage: Damage, to: str) -> None:
    """Write what is lost to ``path``, durably: a line about it, then a line for each range.

    Raises:
        HostError: it cannot be written.
    """
    facts = image.point.facts
    head = {
        "schema": SCHEMA, "type": "damaged", "point": facts.point_id, "volume": facts.volume_name,
        "time": format_time(facts.time.timestamp()), "to": to, "size": image.size,
        "damaged_bytes": lost_bytes(image, damage), "ranges": len(damage.lost),
        "unmapped_bytes": sum(end - start for start, end in _bytes(image, damage.unmapped)),
        "problems": damage.problems,
    }  # fmt: skip
    ranges = ({"start": start, "end": end} for start, end in _bytes(image, damage.lost))
    try:
        durable.replace(path, b"".join(_lines([head])) + b"".join(_lines(ranges)), mode=0o644)
    except OSError as error:
        raise HostError(
            f"The list of what is damaged, {path}, cannot be written: {error.strerror}.",
            effect=_UNTOUCHED, hint="Name another file: --damaged-list FILE.",
        ) from error  # fmt: skip


def _lines(documents: Iterable[object]) -> Iterator[bytes]:
    for document in documents:
        yield json.dumps(document, ensure_ascii=False).encode() + b"\n"


def _bytes(image: Image, runs: Runs) -> Iterator[tuple[int, int]]:
    size = image.block_size
    for start, end in zip(runs.starts.tolist(), runs.ends.tolist(), strict=True):
        yield start * size, min(end * size, image.size)


def _taken(path: str) -> RefusedError:
    return RefusedError(
        f"{path} exists and is no list of what is damaged",
        effect=f"It was not touched. {_UNTOUCHED}",
        hint="Move it away, or name another file for the list: --damaged-list FILE.",
    )
