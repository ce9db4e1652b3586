"""One NBD connection without I/O: bytes in, commands out; any bytes get an answer or the close.

    session = Session(offers_tls=False)
    for command in session.receive(data): ...        at first with no data: it greets

The handshake asks its surroundings now and then: ``Resolve``, ``ListExports`` and ``StartTls``
stop it until ``answer`` is called; what a client sends meanwhile waits in the buffer. After an
export was chosen every request comes out as ``Serve``, ``Refuse`` or ``Write``; who performs them
writes their replies. After ``Close`` nothing more comes.

Rules of this file: every wait for bytes has a length known beforehand and at most
``OPTION_SIZE_MAX`` or ``PIECE_SIZE``; what is longer is passed on or skipped in pieces. Pure.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Final, NamedTuple

from blocksnapd.export import protocol
from blocksnapd.export.protocol import (
    ALLOCATION,
    ALLOCATION_ID,
    OPTION_SIZE_MAX,
    Command,
    HandshakeFlag,
    Info,
    MalformedOptionError,
    Option,
    OptionReply,
    Request,
)
from blocksnapd.export.rules import Facts, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocksnapd.export.protocol import Errno

PIECE_SIZE: Final = 512 << 10  # of what is written or skipped at a time
OPTIONS_MAX: Final = 1000


class Send(NamedTuple):
    """Send these bytes."""

    data: bytes


class Resolve(NamedTuple):
    """Find the export ``name``, and open it if it ``is_chosen``; the answer is an ``Offer``."""

    name: str
    is_chosen: bool


class ListExports(NamedTuple):
    """Find all exports; the answer is a sequence of (name, description)."""


class StartTls(NamedTuple):
    """Shake hands for TLS; the answer is None."""


class Serve(NamedTuple):
    """Perform this request, which was checked, and reply to it."""

    request: Request


class Refuse(NamedTuple):
    """Reply with this error to the request."""

    request: Request
    error: Errno
    text: str


class Write(NamedTuple):
    """Write ``data``, a piece of what came with the request, at ``offset``."""

    request: Request
    offset: int
    data: bytes


class Close(NamedTuple):
    """Close the connection, once all replies are out if it ``is_clean``, else at once."""

    reason: str
    is_clean: bool = False


class Offer(NamedTuple):
    """What became of a ``Resolve``: the export's facts, or an error reply with its text."""

    facts: Facts | None
    error: OptionReply = OptionReply.ERR_UNKNOWN
    text: str = ""


SessionCommand = Send | Resolve | ListExports | StartTls | Serve | Refuse | Write | Close
_Steps = Generator[None, None, None]


class _ClosedError(Exception):
    def __init__(self, reason: str, *, is_clean: bool = False) -> None:
        super().__init__(reason)
        self.close = Close(reason, is_clean)


class Session:
    """The state of one connection. Args: ``offers_tls``: nothing is told before TLS."""

    def __init__(self, *, offers_tls: bool = False) -> None:
        self.structured = False
        self.facts: Facts | None = None  # of the export chosen; None during the handshake
        self.is_closed = False
        self.is_waiting = False
        self._offers_tls = offers_tls
        self._is_secure = False
        self._selected: str | None = None  # the export whose allocation may be asked
        self._has_context = False
        self._no_zeroes = False
        self._buffer = bytearray()
        self._out: list[SessionCommand] = []
        self._answer: object = None
        self._steps = self._run()

    def receive(self, data: bytes) -> list[SessionCommand]:
        """Take bytes of the client; none at the start, to get the greeting."""
        if self.is_closed:
            return []
        self._buffer += data
        return [] if self.is_waiting else self._go_on()

    def answer(self, value: object) -> list[SessionCommand]:
        """Take what the last command asked for."""
        assert self.is_waiting
        self._answer, self.is_waiting = value, False
        return self._go_on()

    def _go_on(self) -> list[SessionCommand]:
        try:
            next(self._steps)
        except _ClosedError as error:
            self._out.append(error.close)
            self.is_closed = True
            self._buffer.clear()
        out, self._out = self._out, []
        return out

    # --- the script; ``yield from`` waits for bytes or answers ---------------------------------

    def _run(self) -> _Steps:
        self._send(protocol.greeting())
        data = yield from self._take(protocol.CLIENT_FLAGS_SIZE)
        flags = protocol.unpack_client_flags(data)
        if flags & ~int(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES):
            raise _ClosedError(f"the client flags {flags:#x} are unknown")
        self._no_zeroes = bool(flags & HandshakeFlag.NO_ZEROES)
        for _ in range(OPTIONS_MAX):
            yield from self._one_option()
            if self.facts is not None:
                yield from self._transmit(self.facts)
        raise _ClosedError(f"{OPTIONS_MAX} options were sent and no export was chosen")

    def _take(self, size: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < size:
            yield
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return data

    def _skip(self, size: int) -> _Steps:
        while size:
            while not self._buffer:
                yield
            count = min(size, len(self._buffer))
            del self._buffer[:count]
            size -= count

    def _ask(self, command: SessionCommand) -> Generator[None, None, object]:
        self._out.append(command)
        self.is_waiting = True
        while self.is_waiting:
            yield
        return self._answer

    def _send(self, data: bytes) -> None:
        self._out.append(Send(data))

    def _reply(self, option: int, reply: OptionReply, data: bytes = b"") -> None:
        self._send(protocol.option_reply(option, reply, data))

    def _fail(self, option: int, error: OptionReply, text: str) -> None:
        self._reply(option, error, protocol.clipped(text))

    # --- options -------------------------------------------------------------------------------

    def _one_option(self) -> _Steps:
        head = protocol.unpack_option_header((yield from self._take(protocol.OPTION_HEADER_SIZE)))
        if head is None:
            raise _ClosedError("what should be an option is none")
        option, length = head
        if length > OPTION_SIZE_MAX:
            yield from self._skip(length)
            if option == Option.EXPORT_NAME:
                raise _ClosedError("the name of the export is too long")
            text = f"{length} bytes are over the {OPTION_SIZE_MAX} an option may have"
            self._fail(option, OptionReply.ERR_TOO_BIG, text)
            return
        data = yield from self._take(length)
        if self._offers_tls and not self._is_secure and option not in _BEFORE_TLS:
            if option == Option.EXPORT_NAME:
                raise _ClosedError("an export was chosen without TLS")
            self._fail(option, OptionReply.ERR_TLS_REQD, "this server talks TLS only")
            return
        perform = _OPTIONS.get(option)
        if perform is None:
            self._fail(option, OptionReply.ERR_UNSUP, f"option {option} is unknown here")
            return
        try:
            yield from perform(self, option, data)
        except MalformedOptionError as error:
            if option == Option.EXPORT_NAME:
                raise _ClosedError(error.message) from error
            self._fail(option, OptionReply.ERR_INVALID, error.message)

    def _abort(self, option: int, _: bytes) -> _Steps:
        self._reply(option, OptionReply.ACK)
        raise _ClosedError("the client ended the handshake", is_clean=True)
        yield

    def _list(self, option: int, data: bytes) -> _Steps:
        _check_empty(data)
        names = yield from self._ask(ListExports())
        if isinstance(names, Offer):
            self._fail(option, names.error, names.text)
            return
        for name, description in _as_names(names):
            self._reply(option, OptionReply.SERVER, protocol.server_entry(name, description))
        self._reply(option, OptionReply.ACK)

    def _start_tls(self, option: int, data: bytes) -> _Steps:
        _check_empty(data)
        if not self._offers_tls:
            self._fail(option, OptionReply.ERR_POLICY, "this server has no certificate")
            return
        if self._is_secure:
            self._fail(option, OptionReply.ERR_INVALID, "this is TLS already")
            return
        if self._buffer:
            # Somebody on the way may have put them there: nothing said before TLS counts after it.
            raise _ClosedError("bytes came between the wish for TLS and its handshake")
        self._reply(option, OptionReply.ACK)
        self.structured, self._selected = False, None
        yield from self._ask(StartTls())
        self._is_secure = True

    def _structured_reply(self, option: int, data: bytes) -> _Steps:
        _check_empty(data)
        self.structured = True
        self._reply(option, OptionReply.ACK)
        return
        yield

    def _info(self, option: int, data: bytes) -> _Steps:
        name, wanted = protocol.unpack_info_request(data)
        is_chosen = option == Option.GO
        offer = yield from self._resolve(name, is_chosen=is_chosen)
        facts = offer.facts
        if facts is None:
            self._fail(option, offer.error, offer.text)
            return
        flags = facts.flags(structured=self.structured)
        infos = {
            Info.EXPORT: protocol.info_export(facts.size, flags),
            Info.NAME: protocol.info_text(Info.NAME, facts.name),
            Info.DESCRIPTION: protocol.info_text(Info.DESCRIPTION, facts.description),
            Info.BLOCK_SIZE: protocol.info_block_size(facts.block_size),
        }
        for kind, info in infos.items():
            if kind in wanted or kind == Info.EXPORT:
                self._reply(option, OptionReply.INFO, info)
        self._reply(option, OptionReply.ACK)
        if is_chosen:
            self._choose(name, facts)

    def _export_name(self, _: int, data: bytes) -> _Steps:
        name = protocol.unpack_name(data)
        offer = yield from self._resolve(name, is_chosen=True)
        if offer.facts is None:
            raise _ClosedError(f"no export {name!r}: {offer.text}")
        flags = offer.facts.flags(structured=self.structured)
        size = offer.facts.size
        self._send(protocol.export_name_reply(size, flags, has_zeroes=not self._no_zeroes))
        self._choose(name, offer.facts)

    def _meta_context(self, option: int, data: bytes) -> _Steps:
        is_choice = option == Option.SET_META_CONTEXT
        if is_choice:
            self._selected = None
        if not self.structured:
            raise MalformedOptionError("metadata needs structured replies to be agreed on first")
        name, queries = protocol.unpack_meta_request(data)
        offer = yield from self._resolve(name, is_chosen=False)
        if offer.facts is None:
            self._fail(option, offer.error, offer.text)
            return
        wanted = {ALLOCATION} if is_choice else {ALLOCATION, "base:"}
        if wanted & set(queries) or not (is_choice or queries):
            context_id = ALLOCATION_ID if is_choice else 0
            context = protocol.meta_context(context_id, ALLOCATION)
            self._reply(option, OptionReply.META_CONTEXT, context)
            if is_choice:
                self._selected = name
        self._reply(option, OptionReply.ACK)

    def _resolve(self, name: str, *, is_chosen: bool) -> Generator[None, None, Offer]:
        offer = yield from self._ask(Resolve(name, is_chosen))
        assert isinstance(offer, Offer)
        return offer

    def _choose(self, name: str, facts: Facts) -> None:
        self._has_context = self._selected == name and self.structured
        self.facts = facts

    # --- transmission --------------------------------------------------------------------------

    def _transmit(self, facts: Facts) -> _Steps:
        while True:
            request = protocol.unpack_request((yield from self._take(protocol.REQUEST_SIZE)))
            if request is None:
                raise _ClosedError("what should be a request is none")
            if request.command == Command.DISC:
                raise _ClosedError("the client is done", is_clean=True)
            refused = refusal(
                request, facts, structured=self.structured, has_context=self._has_context
            )
            if request.command == Command.WRITE:
                yield from self._payload(request, is_wanted=refused is None)
            if refused is not None:
                self._out.append(Refuse(request, *refused))
            elif request.command != Command.WRITE:
                self._out.append(Serve(request))

    def _payload(self, request: Request, *, is_wanted: bool) -> _Steps:
        if not is_wanted:
            yield from self._skip(request.length)
            return
        offset = request.offset
        while True:
            data = yield from self._take(min(PIECE_SIZE, request.end - offset))
            self._out.append(Write(request, offset, data))
            offset += len(data)
            if offset == request.end:
                return


def _check_empty(data: bytes) -> None:
    if data:
        raise MalformedOptionError(f"{len(data)} bytes came with an option that has none")


def _as_names(value: object) -> Sequence[tuple[str, str]]:
    assert isinstance(value, (list, tuple))
    return value


_BEFORE_TLS: Final = {Option.STARTTLS, Option.ABORT}
_OPTIONS: Final[dict[int, Callable[[Session, int, bytes], _Steps]]] = {
    Option.EXPORT_NAME: Session._export_name,
    Option.ABORT: Session._abort,
    Option.LIST: Session._list,
    Option.STARTTLS: Session._start_tls,
    Option.INFO: Session._info,
    Option.GO: Session._info,
    Option.STRUCTURED_REPLY: Session._structured_reply,
    Option.LIST_META_CONTEXT: Session._meta_context,
    Option.SET_META_CONTEXT: Session._meta_context,
}
