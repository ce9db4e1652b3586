"""The session by playbooks, then by any bytes in any pieces."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.export import session as module
from blocksnapd.export.protocol import OPTION_SIZE_MAX, OptionReply, Request
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
)
from tests.export import client
from tests.export.client import (
    ABORT,
    ACK,
    DISC,
    EXPORT_NAME,
    FLUSH,
    INFO,
    LIST,
    LIST_META,
    READ,
    STARTTLS,
    STATUS,
    STRUCTURED,
    TRIM,
    WRITE,
    Feed,
    go,
    meta,
    option,
    request,
)

FLAGS = struct.pack(">I", 3)
SIZE = 1 << 20
ERR = 1 << 31


class Play:
    """A session with surroundings that know two exports, ``disk`` and, read-only, ``film``."""

    def __init__(self, **options: Any) -> None:
        self.session = Session(**options)
        self.said = Feed()
        self.done: list[Any] = []
        self.asked: list[Any] = []
        self.give(b"")

    def give(self, data: bytes) -> Play:
        left = self.session.receive(data)
        while left:
            command = left.pop(0)
            if isinstance(command, Send):
                self.said.data += command.data
            elif isinstance(command, (Resolve, ListExports, StartTls)):
                assert not left, "a question is the last command"
                self.asked.append(command)
                left = self.session.answer(self.answer(command))
            else:
                self.done.append(command)
                assert not (isinstance(command, Close) and left), "nothing follows the end"
        return self

    @staticmethod
    def answer(command: Any) -> Any:
        if isinstance(command, Resolve):
            if command.name in ("disk", "film", ""):
                name = command.name or "disk"
                return Offer(Facts(name, SIZE, 8192, name == "disk", "about it"))
            return Offer(None, OptionReply.ERR_UNKNOWN, "there is none")
        return [("disk", "one"), ("film", "other")] if isinstance(command, ListExports) else None

    def begin(self, *options: bytes, **more: Any) -> Play:
        self.give(FLAGS + b"".join(options))
        assert self.said.greeting() == 3
        return self

    def replies(self) -> list[tuple[int, bytes]]:
        return self.said.option_replies()

    def kinds(self) -> list[int]:
        return [kind for kind, _ in self.replies()]


def started(*options: bytes, **more: Any) -> Play:
    return Play(**more).begin(*options)


def test_it_greets_before_anything_was_said():
    play = Play()
    assert play.said.greeting() == 3
    assert not play.done


@pytest.mark.parametrize("flags", [4, 1 << 31])
def test_unknown_client_flags_close(flags):
    play = Play().give(struct.pack(">I", flags))
    assert play.done == [Close(f"the client flags {flags:#x} are unknown")]
    assert play.give(option(ABORT)).done == play.done


def test_list_tells_names_and_descriptions():
    play = started(option(LIST))
    assert play.replies() == [
        (2, b"\0\0\0\x04diskone"), (2, b"\0\0\0\x04filmother"), (ACK, b""),
    ]  # fmt: skip


@pytest.mark.parametrize("number", [LIST, STRUCTURED, STARTTLS])
def test_options_without_data_refuse_data(number):
    assert started(option(number, b"x")).kinds() == [ERR + 3]


def test_info_tells_what_was_asked_and_goes_on():
    play = started(go("disk", INFO, (1, 2, 3, 999)), go("none", INFO), go("film", INFO))
    found = play.replies()
    assert [data[:2] for kind, data in found if kind == 3] == [b"\0\0", b"\0\1", b"\0\2", b"\0\3"]
    assert found[0][1][2:10] == struct.pack(">Q", SIZE)
    assert found[1][1][2:] == b"disk"
    assert found[3][1][2:] == struct.pack(">III", 1, 8192, 32 << 20)
    assert play.kinds() == [ERR + 6]
    assert play.kinds() == [3, ACK]
    assert play.asked[0] == Resolve("disk", is_chosen=False)
    assert play.session.facts is None


def test_go_chooses_and_requests_follow():
    play = started(go("film"), request(READ, 0, 512))
    assert play.kinds() == [3, ACK]
    assert play.asked == [Resolve("film", is_chosen=True)]
    assert play.done == [Serve(Request(READ, 0, 1, 0, 512))]
    assert play.session.facts is not None


def test_export_name_is_answered_in_its_own_form_or_not_at_all():
    play = started(option(EXPORT_NAME, b"film"), request(FLUSH))
    size, flags = play.said.unpack("QH")
    assert (size, flags & 2) == (SIZE, 2)
    assert not play.said.data
    assert play.done == [Serve(Request(FLUSH, 0, 1, 0, 0))]
    old = Play().give(struct.pack(">I", 1) + option(EXPORT_NAME, b"film"))
    assert len(old.said.data) == 18 + 134
    assert started(option(EXPORT_NAME, b"none")).done[0].reason.startswith("no export 'none'")
    assert isinstance(started(option(EXPORT_NAME, b"\xff")).done[0], Close)
    long = option(EXPORT_NAME, b"x" * (OPTION_SIZE_MAX + 1))
    assert started(long).done == [Close("the name of the export is too long")]


def test_abort_is_acknowledged_and_ends():
    play = started(option(ABORT, b"whatever"))
    assert play.kinds() == [ACK]
    assert play.done[0].is_clean


def test_unknown_options_and_broken_ones_are_told_and_survived():
    play = started(option(77, b"x"), go("disk")[:-2] + b"\0\5", go("disk", INFO))
    assert play.kinds() == [ERR + 1]
    assert play.kinds() == [ERR + 3]
    assert play.kinds() == [3, ACK]


def test_too_long_an_option_is_skipped_in_any_pieces_without_keeping_it():
    play = started(b"IHAVEOPT" + struct.pack(">II", LIST, 1 << 30))
    for _ in range(1 << 14):
        play.give(bytes(1 << 16))
        assert not play.session._buffer
    assert play.give(option(LIST)).kinds() == [ERR + 9]
    assert play.kinds() == [2, 2, ACK]


def test_what_is_no_option_closes():
    assert started(b"GET / HTTP/1.1\r\n\r\n").done == [Close("what should be an option is none")]


def test_a_client_that_only_talks_is_ended(monkeypatch):
    monkeypatch.setattr(module, "OPTIONS_MAX", 5)
    play = started(*[option(STRUCTURED)] * 9)
    assert play.done == [Close("5 options were sent and no export was chosen")]


# --- metadata -----------------------------------------------------------------------------------


def allocation(*options: bytes) -> Play:
    return started(option(STRUCTURED), *options)


def test_contexts_are_listed_and_chosen():
    play = allocation(
        meta("film", number=LIST_META), meta("film", "base:", number=LIST_META),
        meta("film", "qemu:", number=LIST_META), meta("film", "base:"),
        meta("film", "x:y", "base:allocation"), meta("none", "base:allocation"),
    )  # fmt: skip
    play.replies()
    listed = (4, b"\0\0\0\0base:allocation")
    chosen = (4, b"\0\0\0\1base:allocation")
    end = (ACK, b"")
    assert [play.replies() for _ in range(5)] == [
        [listed, end], [listed, end], [end], [end], [chosen, end],
    ]  # fmt: skip
    assert play.kinds() == [ERR + 6]


@pytest.mark.parametrize(
    ("options", "works"),
    [
        ([meta("film", "base:allocation")], True),
        ([], False),
        ([meta("film", "base:allocation"), meta("film")], False),
        ([meta("disk", "base:allocation")], False),
        ([meta("film", "base:allocation"), option(10, b"broken")], False),
    ],
)
def test_block_status_needs_the_last_choice_to_be_for_this_export(options, works):
    play = allocation(*options, go("film"), request(STATUS, 0, 512))
    assert isinstance(play.done[0], Serve if works else Refuse)


def test_metadata_needs_structured_replies():
    assert started(meta("film", "base:allocation")).kinds() == [ERR + 3]


# --- TLS ----------------------------------------------------------------------------------------


def test_without_a_certificate_tls_is_refused():
    assert started(option(STARTTLS)).kinds() == [ERR + 2]


def test_with_a_certificate_nothing_else_is_told_before_it():
    play = started(option(LIST), go("disk"), option(99), option(STRUCTURED), offers_tls=True)
    assert [play.kinds() for _ in range(4)] == [[ERR + 5]] * 4
    assert not play.asked
    assert play.give(option(STARTTLS)).kinds() == [ACK]
    assert play.asked == [StartTls()]
    assert play.give(option(STARTTLS)).kinds() == [ERR + 3]
    assert play.give(option(LIST)).kinds() == [2, 2, ACK]


def test_a_name_without_tls_closes():
    play = started(option(EXPORT_NAME, b"disk"), offers_tls=True)
    assert play.done == [Close("an export was chosen without TLS")]


def test_bytes_slipped_in_before_the_tls_handshake_close():
    play = started(option(STARTTLS) + option(STRUCTURED), offers_tls=True)
    assert "between" in play.done[0].reason
    assert not play.asked


# --- transmission -------------------------------------------------------------------------------


def test_what_is_no_request_closes():
    play = started(go("disk"), b"\0" * 28)
    assert play.done == [Close("what should be a request is none")]


def test_disconnect_is_clean_and_final():
    play = started(go("disk"), request(DISC), request(READ, 0, 1))
    assert [type(c) for c in play.done] == [Close]
    assert play.done[0].is_clean


def test_refused_requests_leave_the_connection_as_it_was():
    play = started(go("film"), request(TRIM, 0, 5), request(99), request(READ, 0, 1))
    assert [type(c) for c in play.done] == [Refuse, Refuse, Serve]
    assert [c.error for c in play.done[:2]] == [1, 22]


def test_a_refused_write_is_skipped_with_its_data():
    play = started(go("film"))
    play.give(request(WRITE, 0, 1 << 31))
    for _ in range(1 << 15):
        play.give(bytes(1 << 16))
        assert not play.session._buffer
    play.give(request(READ, 0, 1))
    assert [type(c) for c in play.done] == [Refuse, Serve]


@pytest.mark.parametrize("length", [0, 1, PIECE_SIZE, PIECE_SIZE + 1])
def test_a_write_comes_in_pieces(monkeypatch, length):
    data = bytes(range(251)) * (length // 251 + 1)
    play = started(go("disk"), request(WRITE, 100, length), data[:length], request(FLUSH))
    writes = play.done[:-1]
    assert b"".join(w.data for w in writes) == data[:length]
    assert all(len(w.data) <= PIECE_SIZE for w in writes)
    assert [w.offset for w in writes] == list(range(100, 100 + max(length, 1), PIECE_SIZE))
    assert all(w.request is writes[0].request for w in writes)
    assert isinstance(play.done[-1], Serve)


# --- any bytes ----------------------------------------------------------------------------------

opening = st.sampled_from(
    [
        option(LIST), option(STRUCTURED), option(STARTTLS), option(ABORT), option(99, b"abc"),
        go("disk"), go("none"), go("film", INFO, (1, 3)), option(EXPORT_NAME, b"film"),
        meta("film", "base:allocation"), meta("disk", "base:allocation", "q:"), meta("disk"),
        meta("film", number=LIST_META), option(LIST, b"x"),
    ]
)  # fmt: skip
talking = st.builds(
    lambda command, offset, length, flags: request(
        command, offset, length, flags=flags, data=b"w" * length * (command == WRITE)
    ),
    st.sampled_from([0, 1, 3, 4, 5, 6, 7, 9]), st.sampled_from([0, 5, SIZE - 1, SIZE, 2**64 - 1]),
    st.sampled_from([0, 1, 100, 5000]), st.sampled_from([0, 0, 0, 1, 4, 8, 64]),
)  # fmt: skip
scripts = st.builds(
    lambda flags, options, chosen, requests, end: b"".join(
        [flags, *options, go(chosen), *requests, end]
    ),
    st.sampled_from([FLAGS, FLAGS, FLAGS, b"\0\0\0\1"]), st.lists(opening, max_size=5),
    st.sampled_from(["disk", "film"]), st.lists(talking, max_size=5),
    st.sampled_from([b"", request(DISC)]),
)  # fmt: skip
damage = st.lists(
    st.tuples(st.sampled_from(["cut", "put", "drop"]), st.floats(0, 1), st.binary(max_size=9)),
    max_size=3,
)


def damaged(data: bytes, steps: list[tuple[str, float, bytes]]) -> bytes:
    for what, where, more in steps:
        at = int(where * len(data))
        if what == "cut":
            data = data[:at]
        elif what == "put":
            data = data[:at] + more + data[at:]
        else:
            data = data[:at] + data[at + len(more) :]
    return data


@settings(max_examples=300, deadline=None)
@given(scripts, damage, st.lists(st.integers(1, 200), min_size=1), st.booleans())
def test_any_bytes_in_any_pieces_get_the_same_answer(script, steps, pieces, offers_tls):
    data = damaged(script, steps)
    whole = Play(offers_tls=offers_tls).give(data)
    parts, at, turn = Play(offers_tls=offers_tls), 0, 0
    while at < len(data):
        size = pieces[turn % len(pieces)]
        parts.give(data[at : at + size])
        assert len(parts.session._buffer) <= OPTION_SIZE_MAX + 200
        at, turn = at + size, turn + 1
    if offers_tls and any("between" in str(c) for c in whole.done):
        return  # what came with the wish for TLS is known only when it came with it
    assert parts.said.data == whole.said.data
    assert parts.asked == whole.asked
    assert parts.done == whole.done
    assert sum(isinstance(c, Close) for c in whole.done) <= 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_gets_an_answer_or_the_end(data):
    Play().give(data)
    Play().give(FLAGS + data)
    started(go("disk")).give(data)


def test_every_cut_of_a_whole_conversation_is_survived():
    script = FLAGS + b"".join(
        [option(STRUCTURED), meta("disk", "base:allocation"), option(LIST), go("disk"),
         request(READ, 0, 9), request(WRITE, 0, 5, data=b"abcde"), request(STATUS, 0, 9),
         request(DISC)]
    )  # fmt: skip
    whole = Play().give(script)
    for cut in range(len(script)):
        part = Play().give(script[:cut])
        assert whole.said.data.startswith(bytes(part.said.data))
        assert part.done == whole.done[: len(part.done)]


def test_the_client_of_these_tests_speaks_as_the_protocol_says():
    assert client.request(READ, 1, 2, cookie=3) == bytes.fromhex(
        "25609513 0000 0000 0000000000000003 0000000000000001 00000002"
    )
