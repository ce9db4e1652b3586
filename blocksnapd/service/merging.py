"""The last steps of a restore in place that the kernel does: what was is there at once.

What differs is written as a COW device and shown by the kernel over the volume; that is read back
and proven before anything of the volume changes. Then it is merged.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from typing import TYPE_CHECKING

from blocksnapd.cycle import merging
from blocksnapd.errors import CancelledRunError, ChecksumError, HostError, RefusedError
from blocksnapd.model import Extents
from blocksnapd.parse import cow_format
from blocksnapd.parse.cow_writer import CowWriter
from blocksnapd.restore.content_sum import ContentSum, content_sum
from blocksnapd.restore.held_volume import HeldVolume
from blocksnapd.restore.in_place import Measured, read_back
from blocksnapd.runtime.direct_reader import DirectReader
from blocksnapd.service.cow_parts import begun_parts

if TYPE_CHECKING:
    import threading

    from blocksnapd.cycle.lvm import Lvm
    from blocksnapd.cycle.lvm_text import VolumeName
    from blocksnapd.model import U64
    from blocksnapd.service.runs import LiveRun
    from blocksnapd.store.difference import Difference


class Merge:
    """One merge into ``volume``; its run tells how it goes."""

    def __init__(
        self, lvm: Lvm, volume: VolumeName, point_id: str, run: LiveRun, stop: threading.Event
    ) -> None:
        self._lvm, self._volume, self._id = lvm, volume, point_id
        self._run, self._stop = run, stop

    async def prepare(self, difference: Difference, size: Measured, block_size: int) -> None:
        """Let the kernel show the wanted point over the volume, and prove what it shows.

        Raises:
            RefusedError: blocks that no snapshot can have. SpaceError: the COW space has no room.
            ChecksumError: the kernel shows something else. Others: it failed; ``settle`` clears up.
        """
        if not cow_format.is_chunk_size(block_size):
            raise RefusedError(f"the kernel merges no blocks of {block_size} bytes")
        begun, run = time.monotonic(), self._run
        run.phase, run.expected_bytes, run.done_bytes = "write", 2 * size.size, 0
        needed = cow_format.bytes_needed(size.chunk_bytes // block_size, block_size)
        made = await merging.make(self._lvm, self._volume, self._id, needed)
        wanted = await asyncio.to_thread(self._write, difference, block_size, made)
        run.phases["write"], begun = time.monotonic() - begun, time.monotonic()
        await merging.convert(self._lvm, self._volume, self._id, block_size)
        run.phase = "verify"
        if await asyncio.to_thread(self._read_back, difference, block_size) != wanted:
            raise ChecksumError(
                f"{merging.device(self._volume, self._id)} does not show what was written to it.",
                hint="The COW space's disk or memory is damaged. Restore without merging.",
            )
        run.phases["verify"] = time.monotonic() - begun
        run.changed_bytes = size.size

    async def begin(self) -> None:
        """Make the volume what is shown; nobody may hold it open."""
        begun = time.monotonic()
        await merging.begin(self._lvm, self._volume, self._id)
        self._run.phases["switch"] = time.monotonic() - begun

    async def settle(self) -> list[str]:
        """See it through, or clear away what never was merged; return what was done."""
        begun, run = time.monotonic(), self._run

        def tell(left: int) -> None:
            if run.phase != "merge":
                run.phase, run.expected_bytes = "merge", left
            run.done_bytes = max(0, run.expected_bytes - left)

        done = await merging.settle(self._lvm, self._volume, tell)
        if run.phase == "merge":
            run.phases["merge"] = time.monotonic() - begun
        return done

    def _write(self, difference: Difference, block_size: int, made: int) -> int:
        """Write the COW device; return the content sum of what it holds."""
        total, run = ContentSum(block_size), self._run
        path = merging.device(self._volume, self._id)
        with HeldVolume(path) as held:
            held.zero(Extents.whole(made))  # others were here before
            held.sync()
        with CowWriter(path, chunk_size=block_size, size=made, is_new=False) as writer:

            def work(blocks: U64, data: memoryview) -> tuple[int, int]:
                writer.write(blocks, data)
                return content_sum(blocks, data, block_size), len(data)

            for part in begun_parts(difference, writer, block_size):
                with closing(part.each_piece(work)) as pieces:
                    for piece_sum, size in pieces:
                        total.add_sum(piece_sum)
                        run.done_bytes += size
                        self._check_stop()
            writer.finish()
        return total.value()

    def _read_back(self, difference: Difference, block_size: int) -> int:
        path = merging.device(self._volume, self._id)

        def advance(size: int) -> None:
            self._run.done_bytes += size
            self._check_stop()

        try:
            with open(path, "rb") as file:
                end = file.seek(0, 2)
            with DirectReader(path, end) as reader:
                return read_back(difference, reader, block_size, advance)
        except OSError as error:
            raise HostError(f"{path} cannot be read: {error.strerror}.") from error

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise CancelledRunError("The restore was cancelled.")
