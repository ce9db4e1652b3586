"""What is owed to applications: hooks that must still run to let go what others hold. Edge.

One small file per volume, ``hooks`` in its state directory: xxh3_128 of the record, in hex, then
the record as JSON. It is written before the first hook before a snapshot runs, and removed when
the hooks marked ``always`` have ended well: whoever dies in between finds it at the next start.
It holds the hooks themselves, so that they run also if the configuration lost them meanwhile.
Blocking: call in a thread.
"""

from __future__ import annotations

import os

import msgspec

from blocksnapd.cycle.checked_line import pack_line, unpack_line
from blocksnapd.cycle.hook_text import Order  # noqa: TC001 - msgspec reads it at run time
from blocksnapd.errors import StateError
from blocksnapd.runtime import durable

SIZE_MAX = 1 << 20


class Debt(msgspec.Struct, frozen=True):
    """Hooks that must run yet, and what they are told."""

    facts: dict[str, str]
    orders: tuple[Order, ...]


class HookJournal:
    """The file, and what it holds."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "hooks")

    def read(self) -> Debt | None:
        """Return what is owed, None if nothing.

        Raises:
            StateError: the file is damaged. OSError: it cannot be read.
        """
        try:
            with open(self._path, "rb") as file:
                return unpack(file.read(SIZE_MAX + 1))
        except FileNotFoundError:
            return None

    def write(self, debt: Debt) -> None:
        """Note what is owed; durable on return."""
        durable.make_dirs(os.path.dirname(self._path))
        durable.replace(self._path, pack(debt))

    def clear(self) -> None:
        """Note that nothing is owed any more; durable on return."""
        if os.path.lexists(self._path):
            durable.remove(self._path)


def pack(debt: Debt) -> bytes:
    """Return the bytes of the file."""
    return pack_line(msgspec.json.encode(debt))


def unpack(data: bytes) -> Debt:
    """Return the record in a file's bytes.

    Raises:
        StateError: they are not what :func:`pack` wrote.
    """
    line = unpack_line(data)
    try:
        if line.is_true:
            return msgspec.json.decode(line.body, type=Debt)
        reason = "its checksum is of something else"
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = str(error)
    raise StateError(
        f"the record of hooks that must still run is damaged: {reason}",
        effect="An application may still be held by a hook that ran before a snapshot.",
        hint="Look whether it is, let it go by hand, then remove the file 'hooks' in the "
        "volume's state directory.",
    )
