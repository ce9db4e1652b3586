"""What was written comes back, and no other byte passes for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.cycle.checked_line import pack_line, unpack_line

LINES = st.binary(max_size=60).filter(lambda body: not body.endswith(b"\n"))


@given(LINES)
def test_there_and_back(body: bytes) -> None:
    line = unpack_line(pack_line(body))
    assert (line.body, line.is_true) == (body, True)


@given(LINES, st.data())
def test_a_bit_of_it_changed(body: bytes, dice: st.DataObject) -> None:
    data = bytearray(pack_line(body))
    at = dice.draw(st.integers(0, len(data) - 2))  # without the last line's end
    data[at] ^= 1 << dice.draw(st.integers(0, 7))
    line = unpack_line(bytes(data))
    assert not line.is_true


@given(st.binary(max_size=80))
def test_anything_gives_a_value(data: bytes) -> None:
    unpack_line(data)
