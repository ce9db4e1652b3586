"""Which requests an export answers, and with what it refuses the others: one table. Pure.

Rule of this file: whoever performs a request relies on what is checked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blocksnapd.export.protocol import (
    PAYLOAD_SIZE_MAX,
    Command,
    CommandFlag,
    Errno,
    TransmissionFlag,
)

if TYPE_CHECKING:
    from blocksnapd.export.protocol import Request

READ_ONLY_FLAGS: Final = (
    TransmissionFlag.HAS_FLAGS
    | TransmissionFlag.READ_ONLY
    | TransmissionFlag.CAN_MULTI_CONN
    | TransmissionFlag.SEND_CACHE
)
WRITABLE_FLAGS: Final = (
    TransmissionFlag.HAS_FLAGS
    | TransmissionFlag.CAN_MULTI_CONN
    | TransmissionFlag.SEND_CACHE
    | TransmissionFlag.SEND_FLUSH
    | TransmissionFlag.SEND_FUA
    | TransmissionFlag.SEND_TRIM
    | TransmissionFlag.SEND_WRITE_ZEROES
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a client learns of an export."""

    name: str
    size: int
    block_size: int = 4096
    is_writable: bool = False
    description: str = ""

    def flags(self, *, structured: bool) -> int:
        """Return its transmission flags."""
        flags = WRITABLE_FLAGS if self.is_writable else READ_ONLY_FLAGS
        return int(flags | TransmissionFlag.SEND_DF if structured else flags)


@dataclass(frozen=True, slots=True)
class _Rule:
    """``beyond`` is the error past the end; None: the command is not about a range."""

    flags: CommandFlag = CommandFlag.FUA
    writes: bool = False
    beyond: Errno | None = Errno.EINVAL
    length_max: int = (1 << 32) - 1
    too_long: Errno = Errno.EINVAL


_RULES: Final[dict[int, _Rule]] = {
    Command.READ: _Rule(CommandFlag.FUA | CommandFlag.DF, length_max=PAYLOAD_SIZE_MAX),
    Command.WRITE: _Rule(writes=True, beyond=Errno.ENOSPC, length_max=PAYLOAD_SIZE_MAX),
    Command.FLUSH: _Rule(beyond=None),
    Command.TRIM: _Rule(writes=True),
    Command.CACHE: _Rule(length_max=PAYLOAD_SIZE_MAX, too_long=Errno.EOVERFLOW),
    Command.WRITE_ZEROES: _Rule(
        CommandFlag.FUA | CommandFlag.NO_HOLE, writes=True, beyond=Errno.ENOSPC
    ),
    Command.BLOCK_STATUS: _Rule(CommandFlag.FUA | CommandFlag.REQ_ONE),
}


def refusal(
    request: Request, facts: Facts, *, structured: bool, has_context: bool
) -> tuple[Errno, str] | None:
    """Return why ``request`` is refused, with a text for people; None: it is to be performed.

    Args:
        request: any bytes that had a request's form.
        facts: of the export.
        structured: structured replies were agreed on.
        has_context: ``base:allocation`` was selected for this export.
    """
    rule = _RULES.get(request.command)
    if rule is None:
        return Errno.EINVAL, f"there is no command {request.command}"
    if rule.writes and not facts.is_writable:
        return Errno.EPERM, "this export is read-only"
    if request.flags & ~int(rule.flags) or (request.flags & CommandFlag.DF and not structured):
        return Errno.EINVAL, f"flags {request.flags:#x} mean nothing for command {request.command}"
    if request.command == Command.BLOCK_STATUS and not (has_context and request.length):
        return Errno.EINVAL, "no metadata context was selected, or no length was given"
    if rule.beyond is not None and request.end > facts.size:
        return rule.beyond, f"the request ends at {request.end}, the export at {facts.size}"
    if request.length > rule.length_max:
        return rule.too_long, f"{request.length} bytes are over {rule.length_max} in one request"
    return None
