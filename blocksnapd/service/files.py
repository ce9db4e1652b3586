"""Files of points, as a worker gives them out: lists of them, and runs that copy them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_to_bytes

from blocksnapd.control.messages import SCHEMA
from blocksnapd.errors import BlocksnapError, ChecksumError, FormatError
from blocksnapd.files.copying import Copying
from blocksnapd.files.listing import listed
from blocksnapd.files.paths import find
from blocksnapd.files.source import ImageSource
from blocksnapd.files.volumes import chosen, volumes_of
from blocksnapd.service.jobs import Job
from blocksnapd.units import format_count, format_size

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from blocksnapd.control.messages import FilesQuery, Point, RunRequest
    from blocksnapd.files.copying import Report
    from blocksnapd.files.nodes import FileSystem
    from blocksnapd.ports import PointImage
    from blocksnapd.service.runs import LiveRun

REPLAY_HINT = (
    "What is in it shows, as after a crash, with: blocksnapctl mount, or export --writable"
)


class Points(Protocol):
    """Who knows the points, and opens them."""

    async def point(self, selector: str) -> Point:
        """Return the one that ``selector`` names; raises as ``Operations.point``."""

    def open_image(self, point_id: str) -> PointImage:
        """Return the image of the point with this id; may be called in any thread."""


async def listing(
    points: Points, selector: str, query: FilesQuery
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the parts of a list: see ``Operations.files``."""
    point = await points.point(selector)
    image = await asyncio.to_thread(points.open_image, point["id"])
    try:
        steps = _parts(image, query)
        while (part := await asyncio.to_thread(_next, steps)) is not None:
            yield {"schema": SCHEMA, **part}
    finally:
        image.close()


def _next(steps: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return next(steps, None)
    except FormatError as error:
        raise _explained(error) from error


def _parts(image: PointImage, query: FilesQuery) -> Iterator[dict[str, Any]]:
    volumes = volumes_of(ImageSource(image))
    path = unquote_to_bytes(query.get("path", ""))
    if not path:
        yield {
            "volumes": [
                {
                    "number": v.number, "place": v.name, "size": v.size, "kind": v.kind,
                    "label": v.label, "readable": v.files is not None, "notes": v.notes,
                    "offset": v.offset,
                }
                for v in volumes
            ]
        }  # fmt: skip
        return
    files = chosen(volumes, query.get("part"))
    yield from ({"note": note} for note in _notes(files))
    node, name = find(files, path)
    yield from listed(
        files, node, path if node.is_directory else name,
        recursive=query.get("recursive", False), is_long=query.get("long", False),
    )  # fmt: skip


async def copying(request: RunRequest, points: Points) -> Job:
    """Return what copies the files that ``request`` names.

    Raises:
        UsageError, NotFoundError, ChecksumError: it names no point.
    """
    point = await points.point(request["point"])

    def work(run: LiveRun, cancelled: Callable[[], bool]) -> None:
        run.point, run.to = point["id"], request["to"]
        image = points.open_image(point["id"])
        try:
            _copy(run, ImageSource(image), request, cancelled)
        except FormatError as error:
            raise _explained(error) from error
        finally:
            image.close()

    return Job.in_thread(point["volume"], work)


def _copy(
    run: LiveRun, image: ImageSource, request: RunRequest, cancelled: Callable[[], bool]
) -> None:
    files = chosen(volumes_of(image), request.get("part"))
    run.warnings = _notes(files)
    node, name = find(files, unquote_to_bytes(request["path"]))
    if not node.is_directory:
        run.expected_bytes = node.size

    def progress(now: Report) -> None:
        run.phase, run.done_bytes = now.path, now.data

    work = Copying(
        files, progress=progress, cancelled=cancelled, overwrite=request.get("overwrite", False)
    )
    report = work.report
    try:
        run.to = work.copy(node, name, request["to"], recursive=request.get("recursive", False))
    finally:
        run.warnings = [*run.warnings, *report.sentences(), *report.damaged]
        run.phase, run.changed_bytes = "", report.data
        run.reason = _counted(report)
    if report.damaged_count:
        raise ChecksumError(
            f"{format_count(report.damaged_count, 'path')} could not be read and "
            f"{'is' if report.damaged_count == 1 else 'are'} left out",
            effect="Everything else was copied.",
            hint="The warnings name them. Another point may have them whole.",
        )


def _counted(report: Report) -> str:
    told = [
        format_count(count, noun)
        for count, noun in (
            (report.files, "file"), (report.directories, "directory"),
            (report.links, "symbolic link"),
        )
        if count
    ]  # fmt: skip
    told = [text.replace("directorys", "directories") for text in told]
    return f"{', '.join(told) or 'nothing'} copied, {format_size(report.data)}"


def _notes(files: FileSystem) -> list[str]:
    return [f"The {files.kind}: {note}. {REPLAY_HINT}" for note in files.notes]


def _explained(error: FormatError) -> BlocksnapError:
    """Return ``error`` with what it means and what to do, where it says nothing itself."""
    error.effect = error.effect or "It was not read any further; the repository is untouched."
    error.hint = error.hint or (
        "The file system in the point may be damaged, or need its log replayed: blocksnapctl "
        "mount, or export --writable. Or take another point."
    )
    return error
