"""A receiver made steady: what it can do beside other places, tried again like all else. Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.store.steady import Line, SteadyStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocksnapd.store.looks import Shown
    from blocksnapd.store.receiver import ReceiverStore


class SteadyReceiver(SteadyStore):
    """A ``looks.Looks`` over a receiver, along a line. Thread-safe."""

    def __init__(self, receiver: ReceiverStore, line: Line) -> None:
        super().__init__(receiver, line)
        self._receiver = receiver

    def look(self, volume_id: str) -> Shown:
        """Return what there is of a volume."""
        return self._line.call(self.url, lambda _: self._receiver.look(volume_id))

    def put_point(
        self, name: str, parts: Sequence[bytes | memoryview], *, epoch: int
    ) -> int | None:
        """Create a point if no collection above ``epoch`` is seen; see ``looks.Looks``."""
        return self._line.call(
            self.url,
            lambda moved: self._receiver.put_point(
                name, parts, epoch=epoch, pace=lambda held: self._line.paced(held, moved)
            ),
        )
