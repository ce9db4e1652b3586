"""Valid bytes, spoiled: flips, cuts, splices; and records whose fields say something else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import strategies as st

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

NUMBERS = (0, 1, 2, 127, 128, 255, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1, (1 << 31) - 1,
           1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -1, -(1 << 63))  # fmt: skip


class Samples(list[bytes]):
    """Valid bytes; a failing test does not print them all."""

    def __repr__(self) -> str:
        return f"{len(self)} samples"


def spoiled(valid: Samples) -> SearchStrategy[bytes]:
    """Return a strategy of anything, and of each of ``valid`` after a few mutations."""
    return st.one_of(st.binary(max_size=300), _mutated(valid), _reshaped(valid))


@st.composite
def _mutated(draw: DrawFn, valid: Samples) -> bytes:
    data = valid[draw(st.integers(0, len(valid) - 1))]
    for _ in range(draw(st.integers(1, 4))):
        at, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        deed = draw(st.sampled_from(("flip", "flip", "set", "cut", "double", "splice", "insert")))
        if deed == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif deed == "set" and at < len(data):
            data = data[:at] + draw(st.binary(min_size=1, max_size=8)) + data[at + 1 :]
        elif deed == "cut":
            data = data[:at] + data[end:]
        elif deed == "double":
            data = data[:end] + data[at:]
        elif deed == "splice":
            other = valid[draw(st.integers(0, len(valid) - 1))]
            data = data[:at] + other[draw(st.integers(0, len(other))) :]
        else:
            data = data[:at] + draw(st.binary(max_size=16)) + data[at:]
    return data


@st.composite
def _reshaped(draw: DrawFn, valid: Samples) -> bytes:
    # One or two leaves of a MessagePack record get another value; others are as they were.
    data = valid[draw(st.integers(0, len(valid) - 1))]
    try:
        value = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return draw(_mutated(valid))
    for _ in range(draw(st.integers(1, 3))):
        value = _replace(draw, value)
    return msgspec.msgpack.encode(value)


def _replace(draw: DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: _replace(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _replace(draw, value[at]), *value[at + 1 :]]
    return draw(_like(value))


def _like(value: Any) -> SearchStrategy[Any]:
    number = st.sampled_from(NUMBERS) | st.integers(-(1 << 63), (1 << 64) - 1)
    if isinstance(value, bytes):
        return _mutated(Samples((value, b"\0")))
    if isinstance(value, bool) or value is None:
        return number
    if isinstance(value, int):
        return number | st.sampled_from([max(value - 1, -(1 << 63)), min(value + 1, (1 << 64) - 1)])
    if isinstance(value, str):
        return st.text(max_size=20) | st.sampled_from(("", "a/b", "../x", "v/a/d/1/x.pk", "\0"))
    if isinstance(value, list):
        return st.sampled_from(([], value + value, value[::-1], value[:1], [value]))
    return st.sampled_from(({}, [], 0, "", b""))
