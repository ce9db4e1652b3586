"""One client from its greeting to its end: its session, its requests, its replies. Edge.

    one task     receives, and writes what the client writes, in order
    WORKERS      tasks take requests that read out of a queue; each has at most one piece in memory
    threads      do what may block on a disk; the event loop only passes on

Rules of this file: whatever this client does ends here, as a reply or the end of its connection.
It never holds more than the queue, ``WORKERS`` pieces and what one ``receive`` gave.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeVar, cast

from blocksnapd.errors import BlocksnapError, BusyError
from blocksnapd.export import answers, protocol
from blocksnapd.export.protocol import Errno, OptionReply
from blocksnapd.export.rules import Facts
from blocksnapd.export.session import (
    PIECE_SIZE,
    Close,
    ListExports,
    Offer,
    Refuse,
    Resolve,
    Send,
    Serve,
    Session,
    StartTls,
    Write,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Hashable, Iterator
    from concurrent.futures import Executor

    from blocksnapd.export.answers import Buffers
    from blocksnapd.export.exports import Exports, Lease
    from blocksnapd.export.protocol import Request
    from blocksnapd.export.session import SessionCommand
    from blocksnapd.export.stream import Stream

log = logging.getLogger(__name__)

HANDSHAKE_S: Final = 30.0  # without the time that opening an image takes
WORKERS: Final = 4
REQUESTS_MAX: Final = 256  # in the queue; who sends more waits until some are done
SMALL_SIZE: Final = 32 << 10  # requests up to this are done several at a time
BATCH_MAX: Final = 15  # with the one before, a piece at most

T = TypeVar("T")


class Connection:
    """``await run()``; afterwards nothing of the client is left.

    Args:
        stream: its bytes.
        group: whose it is, see ``exports``.
        exports: what it may choose.
        threads: where blocking work is done.
        tls: what TLS takes; with it nothing is served without.
        handshake_s: how long it may take to choose.
        may_serve: says whether there is a place for one more when it chooses.
    """

    def __init__(
        self,
        stream: Stream,
        group: Hashable,
        exports: Exports,
        threads: Executor,
        *,
        tls: ssl.SSLContext | None = None,
        handshake_s: float = HANDSHAKE_S,
        may_serve: Callable[[], bool] = lambda: True,
    ) -> None:
        self._stream, self._group, self._exports, self._threads = stream, group, exports, threads
        self._tls = tls
        self._handshake_s = handshake_s
        self._may_serve = may_serve
        self._session = Session(offers_tls=tls is not None)
        self._lease: Lease | None = None
        self._requests: asyncio.Queue[Request | None] = asyncio.Queue(REQUESTS_MAX)
        self._unanswered = 0
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._jobs = 0  # under way in threads
        self._no_jobs = asyncio.Event()
        self._no_jobs.set()
        self._failed: Request | None = None  # a write of which a piece failed
        self._ended: Close | None = None
        self.is_ending = False
        self.is_opening = False  # it waits for us, not we for it
        self.sent_bytes = 0

    @property
    def is_serving(self) -> bool:
        """Whether an export was chosen."""
        return self._session.facts is not None

    async def run(self) -> str:
        """Serve until the client or the connection ends; return why it did."""
        self._exports.join(self._group)
        try:
            await self._negotiate()
            if self._ended is None:
                await self._transmit()
            await self._stream.end()
        except (OSError, answers.BrokenReplyError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            self._all_answered.set()  # nobody is left to wait for more
            # A thread under way still reads from the disk.
            await self._no_jobs.wait()
            if self._lease is not None:
                self._exports.give_back(self._lease)
            self._exports.leave(self._group)
            self._stream.close()
        return self._ended.reason if self._ended else "the client left"

    # --- the handshake -------------------------------------------------------------------------

    async def _negotiate(self) -> None:
        try:
            async with asyncio.timeout(self._handshake_s) as limit:
                await self._perform(self._session.receive(b""), limit)
                while not self.is_serving and self._ended is None:
                    data = await self._stream.receive()
                    if not data:
                        self._ended = Close("the client left within the handshake")
                        return
                    await self._perform(self._session.receive(data), limit)
        except TimeoutError:
            self._ended = Close(f"it chose no export within {self._handshake_s:.0f} s")

    async def _perform(self, commands: list[SessionCommand], limit: asyncio.Timeout | None) -> None:
        """Do what the session says; a command that needs an answer is always its last."""
        left = commands[::-1]
        while left:
            match left.pop():
                case Send(data):
                    await self._send([data])
                case Serve(request):
                    self._unanswered += 1
                    self._all_answered.clear()
                    await self._requests.put(request)
                case Refuse(request, error, text):
                    await self._refuse(request, error, text)
                case Write(request, offset, data):
                    await self._write(request, offset, data)
                case Close() as close:
                    self._ended = close
                case StartTls():
                    assert self._tls is not None
                    await self._stream.start_tls(self._tls)
                    left = self._session.answer(None)[::-1]
                case question:
                    assert limit is not None
                    answer = await self._without_limit(self._answer(question), limit)
                    left = self._session.answer(answer)[::-1]

    async def _without_limit(self, answering: Awaitable[object], limit: asyncio.Timeout) -> object:
        """Let a repository take its time: that is none of the client's."""
        loop = asyncio.get_running_loop()
        started, when = loop.time(), limit.when()
        assert when is not None
        limit.reschedule(None)
        self.is_opening = True
        answer = await answering
        self.is_opening = False
        limit.reschedule(when + loop.time() - started)
        return answer

    async def _answer(self, question: SessionCommand) -> object:
        try:
            if isinstance(question, ListExports):
                return await self._exports.names()
            assert isinstance(question, Resolve)
            return await self._offer(question)
        except BusyError as error:
            return Offer(None, OptionReply.ERR_POLICY, error.sentences())
        except BlocksnapError as error:
            return Offer(None, OptionReply.ERR_UNKNOWN, error.sentences())

    async def _offer(self, question: Resolve) -> Offer:
        if self.is_ending:
            return Offer(None, OptionReply.ERR_SHUTDOWN, "the export ends")
        export = await self._exports.resolve(question.name, self._group)
        if question.is_chosen:
            if not self._may_serve():
                raise BusyError("too many clients are served already")
            self._lease = await self._exports.open(export, self._group)
        return Offer(
            Facts(
                export.name, export.size, export.block_size,
                self._exports.is_writable, export.description,
            )
        )  # fmt: skip

    # --- transmission --------------------------------------------------------------------------

    async def _transmit(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(self._work()) for _ in range(WORKERS)]
                await self._receive_requests()
                if self._ended is not None and self._ended.is_clean:
                    for _ in workers:
                        await self._requests.put(None)  # after the last request
                else:
                    for worker in workers:
                        worker.cancel()
        except ExceptionGroup as group:
            expected, others = group.split((OSError, answers.BrokenReplyError))
            if others is not None or expected is None:
                raise
            raise expected.exceptions[0] from None

    async def _receive_requests(self) -> None:
        while self._ended is None and (data := await self._stream.receive()):
            await self._perform(self._session.receive(data), None)

    def close(self) -> None:
        """Close the socket; once ``run`` returned it is closed already."""
        self._stream.close()

    async def finished(self) -> None:
        """Return once every request that came has its reply; new ones are refused from now on."""
        self.is_ending = True
        await self._all_answered.wait()

    async def _work(self) -> None:
        while (request := await self._requests.get()) is not None:
            batch = [request]
            # Leave the other workers their share: decoding runs on every processor.
            share = min(BATCH_MAX, self._requests.qsize() // WORKERS)
            while len(batch) <= share and batch[-1].length <= SMALL_SIZE:
                following = self._requests.get_nowait()
                if following is None:
                    self._requests.put_nowait(None)
                    break
                batch.append(following)
            await self._reply_to(batch)
            self._unanswered -= len(batch)
            if not self._unanswered:
                self._all_answered.set()

    async def _reply_to(self, batch: list[Request]) -> None:
        if self.is_ending:
            for request in batch:
                await self._refuse(request, Errno.ESHUTDOWN, "the export ends")
            return
        large = batch.pop() if batch[-1].length > SMALL_SIZE else None
        if batch:
            # All in one go: passing a request to a thread and back costs more than most reads.
            await self._send(await self._in_thread(lambda: self._gathered(batch)))
        if large is not None and large.length <= PIECE_SIZE:
            await self._send(await self._in_thread(lambda: self._gathered([large])))
        elif large is not None:
            pieces = self._answer_to(large)
            while (piece := await self._in_thread(lambda: next(pieces, None))) is not None:
                await self._send(piece)

    def _gathered(self, batch: list[Request]) -> Buffers:
        return [b for request in batch for piece in self._answer_to(request) for b in piece]

    def _answer_to(self, request: Request) -> Iterator[Buffers]:
        assert self._lease is not None
        return answers.answer(request, self._lease.disk, structured=self._session.structured)

    async def _send(self, buffers: Buffers) -> None:
        self.sent_bytes += sum(map(len, buffers))
        await self._stream.send(buffers)

    async def _write(self, request: Request, offset: int, data: bytes) -> None:
        assert self._lease is not None
        if self._failed is request:
            return
        disk, structured = self._lease.disk, self._session.structured
        reply = await self._in_thread(
            lambda: answers.write(request, offset, data, disk, structured=structured)
        )
        if reply:
            self._failed = request
            await self._send([reply])

    async def _refuse(self, request: Request, error: Errno, text: str) -> None:
        structured = self._session.structured
        await self._send([protocol.error_reply(request.cookie, error, text, structured=structured)])

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # A future of the loop alone: a thread that works on when we are cancelled finds nobody
        # waiting, and ``run`` does.
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            try:
                result = work()
            except BaseException as error:
                loop.call_soon_threadsafe(self._settle, done, None, error)
            else:
                loop.call_soon_threadsafe(self._settle, done, result, None)

        self._threads.submit(job)
        self._jobs += 1
        self._no_jobs.clear()
        return await done

    def _settle(
        self, done: asyncio.Future[T], result: T | None, error: BaseException | None
    ) -> None:
        self._jobs -= 1
        if not self._jobs:
            self._no_jobs.set()
        if done.cancelled():
            return
        if error is None:
            done.set_result(cast("T", result))
        else:
            done.set_exception(error)
