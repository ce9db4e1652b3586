"""A run that exports one file system of an image that holds several, as a disk of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from blocksnapd.errors import NotFoundError, RefusedError, UsageError
from blocksnapd.files.part_image import PartImage
from blocksnapd.files.source import ImageSource
from blocksnapd.files.volumes import volumes_of
from blocksnapd.service.exporting import exporting

if TYPE_CHECKING:
    from blocksnapd.control.messages import Point, RunRequest
    from blocksnapd.ports import PointImage
    from blocksnapd.service.exporting import Points
    from blocksnapd.service.jobs import Job

_NOTHING = "Nothing was exported."


async def exporting_part(request: RunRequest, points: Points) -> Job:
    """Return what exports the point that ``request`` names, or of it the ``part``.

    Raises:
        UsageError, NotFoundError, RefusedError, HostError: nothing is left behind.
    """
    if "part" not in request:
        return await exporting(request, points)
    if "point" not in request:
        raise UsageError("a part is one of a point", effect=_NOTHING, hint="Name the point, too.")
    point = await points.point(request["point"])
    found = PartPoints(points, point, request["part"])
    await asyncio.to_thread(found.look)
    whole = {key: value for key, value in request.items() if key != "part"}
    return await exporting(cast("RunRequest", whole), found)


class PartPoints:
    """The one point whose part is exported, as if that were all of it."""

    def __init__(self, points: Points, point: Point, number: int) -> None:
        self._points, self._point, self._number = points, point, number

    def look(self) -> None:
        """Learn how large the part is. Blocking.

        Raises:
            NotFoundError: there is none. RefusedError: it cannot be put together.
        """
        image = self._open(self._point["id"])
        self._point = {**self._point, "size": image.size}
        image.close()

    async def point(self, selector: str) -> Point:
        """Return the point; its size is the part's."""
        if (await self._points.point(selector))["id"] != self._point["id"]:
            raise NotFoundError(f"only {self._point['id']} is exported here")
        return self._point

    async def points(self, volume: str | None) -> list[Point]:
        """Return the one there is."""
        return [self._point] if volume in (None, self._point["volume"]) else []

    def open_image(self, point_id: str) -> PointImage:
        """Return the image of the part; may be called in any thread."""
        return cast("PointImage", self._open(point_id))  # an export never asks for more

    def _open(self, point_id: str) -> PartImage:
        image = self._points.open_image(point_id)
        try:
            volumes = volumes_of(ImageSource(image))
            if self._number > len(volumes):
                raise NotFoundError(
                    f"there is no volume {self._number} in this point", effect=_NOTHING,
                    hint="What there is tells: blocksnapctl ls POINT:",
                )  # fmt: skip
            volume = volumes[self._number - 1]
            if volume.source is None:
                raise RefusedError(
                    f"{volume.name}: {'; '.join(volume.notes) or 'it is not to be read'}",
                    effect=_NOTHING, hint="Export the whole point; a kernel may know it.",
                )  # fmt: skip
            return PartImage(image, volume.source)
        except BaseException:
            image.close()
            raise
