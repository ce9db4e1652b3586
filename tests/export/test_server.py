"""A whole server and clients that talk well, badly, slowly, too much or not at all."""

from __future__ import annotations

import functools
import itertools
import random
import resource
import socket
import struct
import threading
import time
from contextlib import ExitStack

import pytest

from blocksnapd.errors import ChecksumError
from blocksnapd.export.overlay import Overlay
from tests.export.client import (
    ACK,
    DISC,
    LIST,
    READ,
    STARTTLS,
    STATUS,
    STRUCTURED,
    TRIM,
    WRITE,
    Client,
    go,
    meta,
    option,
    request,
)
from tests.export.serving import KIB, MIB, Shelf, patchy, serving
from tests.restore.memory_image import MemoryImage

CONTENT = patchy(4 * MIB, 9)


def check_reads(client: Client, seed: int, count: int = 20) -> None:
    dice = random.Random(seed)
    for _ in range(count):
        start = dice.randrange(len(CONTENT))
        end = min(len(CONTENT), start + dice.choice([1, 512, 4096, 70_000, 600_000]))
        assert client.read(start, end - start).content == CONTENT[start:end]


def test_many_clients_at_once_each_get_the_right_bytes():
    shelf = Shelf({"": MemoryImage(CONTENT)})
    with serving(shelf) as served:
        problems: list[BaseException] = []

        def work(seed: int) -> None:
            try:
                with Client(served.path) as client:
                    assert client.choose() == len(CONTENT)
                    check_reads(client, seed)
                    client.send(request(DISC))
                    assert client.is_closed()
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems
        assert shelf.opened == [""]


def test_replies_come_to_many_requests_in_any_order():
    with serving(CONTENT) as served, Client(served.path) as client:
        client.choose(structured=False)
        places = [(n * 9973 % (len(CONTENT) - 4096), 4096) for n in range(200)]
        client.send(b"".join(request(READ, *p, cookie=n) for n, p in enumerate(places)))
        seen = set()
        for _ in places:
            reply = client.simple_reply(4096)
            start = places[reply.cookie][0]
            assert reply.content == CONTENT[start : start + 4096]
            seen.add(reply.cookie)
        assert len(seen) == 200


def test_what_was_asked_before_disconnecting_is_answered():
    with serving(CONTENT) as served, Client(served.path) as client:
        client.choose(structured=False)
        client.send(b"".join(request(READ, 0, 4096, cookie=n) for n in range(50)) + request(DISC))
        assert {client.simple_reply(4096).cookie for _ in range(50)} == set(range(50))
        assert client.is_closed()


def conversation() -> bytes:
    return struct.pack(">I", 3) + b"".join(
        [option(STRUCTURED), meta("", "base:allocation"), option(LIST), go(),
         request(READ, 0, MIB), request(WRITE, 0, 100, data=bytes(100)), request(STATUS, 0, MIB),
         request(TRIM, 0, 5), request(READ, 5, 7)]
    )  # fmt: skip


@pytest.mark.parametrize("writable", [False, True])
def test_a_client_cut_anywhere_hurts_nobody(tmp_path, writable):
    with serving(CONTENT, overlays=str(tmp_path) if writable else None) as served:
        with Client(served.path) as witness:
            witness.choose()
            script = conversation()
            for cut in range(0, len(script), 3):
                victim = socket.socket(socket.AF_UNIX)
                victim.connect(served.path)
                victim.sendall(script[:cut])
                if cut % 2:  # a reset instead of an end: what the server sends finds nobody
                    victim.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                victim.close()
                if cut % 30 == 0:
                    assert witness.read(cut, 5000).content == CONTENT[cut : cut + 5000]
            check_reads(witness, 1)
            served.until(lambda: served.server.connections == 1)
        served.until(lambda: served.server.connections == 0)


def test_noise_hurts_nobody():
    dice = random.Random(4)
    with serving(CONTENT) as served, Client(served.path) as witness:
        witness.choose()
        for n in range(60):
            with ExitStack() as stack:
                victim = stack.enter_context(socket.socket(socket.AF_UNIX))
                victim.connect(served.path)
                begin = conversation()[: dice.randrange(60) * 5]
                victim.sendall(begin + dice.randbytes(dice.randrange(1, 3000)))
            if n % 10 == 0:
                check_reads(witness, n, 3)


@pytest.mark.parametrize(
    ("words", "errors"),
    [
        (request(READ, 0, (32 << 20) + 1), [22]),
        (request(READ, len(CONTENT) - 1, 2), [22]),
        (request(READ, 2**64 - 1, 2**32 - 1), [22]),
        (request(READ, 3, 5, flags=1 << 9), [22]),
        (request(WRITE, 0, 1 << 20, data=bytes(1 << 20)), [1]),
        (request(WRITE, 2**63, 5, data=bytes(5)) + request(99), [1, 22]),
    ],
)
def test_oversize_and_misplaced_requests_get_an_error_and_the_client_goes_on(words, errors):
    with serving(CONTENT) as served, Client(served.path) as client:
        client.choose()
        client.send(words)
        assert [client.structured_reply().error for _ in errors] == errors
        assert client.read(513, 777).content == CONTENT[513:1290]


def test_unaligned_reads_are_fine():
    with serving(CONTENT[:-1]) as served, Client(served.path) as client:
        assert client.choose() == len(CONTENT) - 1
        end = len(CONTENT) - 1
        assert client.read(end - 3, 3).content == CONTENT[end - 3 : end]


def test_one_who_takes_nothing_is_waited_for_and_others_are_served():
    with serving(CONTENT) as served, Client(served.path) as lazy, Client(served.path) as witness:
        lazy.choose()
        witness.choose()
        lazy.socket.settimeout(0.5)
        flood = b"".join(request(READ, 0, 4 * MIB) for _ in range(200_000))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(TimeoutError):  # its requests are not taken for ever either
            lazy.send(flood)
        check_reads(witness, 5)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 40 * KIB  # counted in KiB; 4 MiB replies to thousands of requests are not
        lazy.socket.close()
        served.until(lambda: served.server.connections == 1)


def test_who_chooses_nothing_is_put_out():
    with serving(CONTENT, handshake_s=0.3) as served, ExitStack() as stack:
        quick, idle = [stack.enter_context(Client(served.path)) for _ in range(2)]
        quick.choose()
        assert idle.is_closed()  # by then the limit is over for the other one, too
        check_reads(quick, 1, 3)


def test_a_slow_opening_is_not_the_clients_fault():
    shelf, right = Shelf({"": MemoryImage(CONTENT)}), None
    right = shelf._open

    def slow(name: str):
        time.sleep(0.4)
        return right(name)

    shelf._open = slow
    with serving(shelf, handshake_s=0.2) as served, Client(served.path) as client:
        client.choose()
        check_reads(client, 1, 3)


def test_a_flood_of_connections_that_choose_nothing_pushes_out_its_like_only():
    with serving(CONTENT) as served, ExitStack() as stack:
        witness = stack.enter_context(Client(served.path))
        witness.choose()
        crowd = [stack.enter_context(Client(served.path)) for _ in range(140)]
        assert crowd[0].is_closed()
        served.until(lambda: len(served.server._running) <= 130)
        late = stack.enter_context(Client(served.path))
        late.choose()
        check_reads(late, 1, 3)
        check_reads(witness, 2, 3)


def test_one_whose_export_is_being_opened_is_pushed_out_by_nobody(monkeypatch):
    monkeypatch.setattr("blocksnapd.export.server.NEGOTIATING_MAX", 2)
    shelf, go_on = Shelf({"": MemoryImage(CONTENT)}), threading.Event()
    right = shelf._open

    def slow(name: str):
        go_on.wait(20)
        return right(name)

    shelf._open = slow
    with serving(shelf) as served, ExitStack() as stack:
        patient = [stack.enter_context(Client(served.path)) for _ in range(2)]
        for client in patient:
            client.send(go())
        served.until(lambda: all(c.is_opening for c in served.server._running.values()))
        with socket.socket(socket.AF_UNIX) as late:
            late.connect(served.path)
            assert late.recv(1) == b""
        go_on.set()
        for client in patient:
            assert client.option_replies()[-1][0] == ACK


def test_more_clients_than_may_be_are_told_so():
    with serving(CONTENT, connections_max=2) as served, ExitStack() as stack:
        clients = [stack.enter_context(Client(served.path)) for _ in range(3)]
        for client in clients[:2]:
            client.choose()
        clients[2].send(go())
        kind, text = clients[2].option_replies()[-1]
        assert kind == (1 << 31) + 2
        assert b"too many clients" in text
        clients[0].send(request(DISC))
        assert clients[0].is_closed()
        served.until(lambda: served.server.connections == 1)
        clients[2].choose()


def test_unknown_and_damaged_exports_are_told_with_what_to_do():
    shelf = Shelf({"good": MemoryImage(CONTENT), "bad": MemoryImage(CONTENT)})
    right = shelf._open

    def open_image(name: str):
        if name == "bad":
            raise ChecksumError("its point is damaged", effect="It cannot be read.")
        return right(name)

    shelf._open = open_image
    with serving(shelf) as served, Client(served.path) as client:
        client.send(go("none"))
        unknown = ((1 << 31) + 6, b"there is no 'none' here. Look at the list.")
        assert client.option_replies() == [unknown]
        client.send(go("bad"))
        kind, text = client.option_replies()[-1]
        assert (kind, text) == ((1 << 31) + 6, b"its point is damaged. It cannot be read.")
        client.choose("good")
        check_reads(client, 1, 3)


def test_damage_in_the_middle_is_an_error_of_that_read_alone():
    class Image(MemoryImage):
        def read_into(self, offset: int, view: memoryview) -> None:
            if offset <= MIB < offset + len(view):
                raise ChecksumError("the block at 1048576 is damaged")
            super().read_into(offset, view)

    content = random.Random(1).randbytes(2 * MIB)
    with serving({"": Image(content)}) as served, Client(served.path) as client:
        client.choose()
        reply = client.read(0, 2 * MIB)
        assert reply.error == 5
        assert reply.message == "the block at 1048576 is damaged"
        assert client.read(0, MIB).content == content[:MIB]


def test_a_mistake_of_ours_ends_one_connection_only(caplog):
    class Image(MemoryImage):
        def read_into(self, offset: int, view: memoryview) -> None:
            if offset == 7:
                raise ZeroDivisionError
            super().read_into(offset, view)

    with serving({"": Image(CONTENT)}) as served, ExitStack() as stack:
        one, other = [stack.enter_context(Client(served.path)) for _ in range(2)]
        one.choose()
        other.choose()
        one.send(request(READ, 7, 1))
        assert one.is_closed()
        check_reads(other, 1, 3)
    assert "nobody thought of" in caplog.text


# --- writing ------------------------------------------------------------------------------------


def test_connections_of_one_process_share_an_overlay(tmp_path):
    """And a large write, in many pieces, arrives whole; the image stays as it is."""
    data = random.Random(1).randbytes(3 * MIB)
    with serving(CONTENT, overlays=str(tmp_path), idle_s=0.0) as served:
        with Client(served.path) as one, Client(served.path) as other:
            one.choose()
            other.choose()
            one.send(request(WRITE, 1000, len(data), data=data, flags=1))
            assert one.structured_reply().error == 0
            one.send(request(TRIM, 0, 500))
            assert one.structured_reply().error == 0
            wanted = bytes(500) + CONTENT[500:1000] + data
            assert other.read(0, len(wanted)).content == wanted
            one.send(request(WRITE, len(CONTENT) - 1, 2, data=b"xx"))
            assert one.structured_reply().error == 28
        served.until(lambda: served.server.open_count == 0)
        with Client(served.path) as later:
            later.choose()
            check_reads(later, 1)


def test_a_full_disk_fails_the_write_once_and_not_the_client(tmp_path, monkeypatch):
    full = functools.partial(Overlay, reserve=1 << 60)
    monkeypatch.setattr("blocksnapd.export.exports.Overlay", full)
    with serving(CONTENT, overlays=str(tmp_path)) as served, Client(served.path) as client:
        client.choose()
        client.send(request(WRITE, 0, 2 * MIB, data=bytes(2 * MIB)))
        reply = client.structured_reply()
        assert reply.error == 28
        assert "no room" in reply.message
        check_reads(client, 1, 3)


# --- TLS ----------------------------------------------------------------------------------------


def test_without_tls_a_server_with_a_certificate_tells_nothing(certificates):
    tls = certificates.server_context()
    with serving(CONTENT, tls=tls) as served, Client(served.path) as client:
        for words in (option(LIST), go(), option(STRUCTURED)):
            client.send(words)
            assert client.option_replies()[-1][0] == (1 << 31) + 5
        client.send(option(STARTTLS))
        assert client.option_replies() == [(ACK, b"")]
        client.send(b"this is no TLS at all")
        assert client.is_closed()


# --- ending -------------------------------------------------------------------------------------


def test_stopping_ends_idle_and_busy_clients_and_closes_everything():
    shelf = Shelf({"": MemoryImage(CONTENT)})
    with serving(shelf) as served, ExitStack() as stack:
        clients = [stack.enter_context(Client(served.path)) for _ in range(4)]
        for client in clients[1:]:
            client.choose(structured=False)
        clients[1].send(b"".join(request(READ, 0, 4096, cookie=n) for n in range(20)))
        served.stop()
        assert {clients[1].simple_reply(4096).cookie for _ in range(20)} == set(range(20))
        for client in clients:
            assert client.is_closed()
        assert shelf.closed == [""]
        with pytest.raises(OSError):
            Client(served.path)


def test_what_was_sent_is_counted():
    with serving(CONTENT) as served:
        with Client(served.path) as client:
            client.choose()
            for start in itertools.islice(range(0, MIB, 4096), 10):
                client.read(start, 4096)
            assert served.server.connections == 1
        served.until(lambda: served.server.connections == 0)
        assert served.server.sent_bytes >= 10 * 20
