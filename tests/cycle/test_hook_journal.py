"""What must still run outlives the daemon; a damaged record is told, never obeyed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.cycle.hook_journal import Debt, HookJournal, pack, unpack
from blocksnapd.cycle.hook_text import Order
from blocksnapd.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

DEBT = Debt(
    {"VOLUME": "vg0/x", "POINT": "p1"}, (Order("a:b", "a", ("/b", "c"), "root", 30.0),)
)  # fmt: skip
texts = st.text(max_size=20)
orders = st.builds(
    Order, texts, texts, st.lists(texts, max_size=3).map(tuple), texts,
    st.floats(0, 1e6, allow_nan=False),
)  # fmt: skip
debts = st.builds(
    Debt, st.dictionaries(texts, texts, max_size=3), st.lists(orders, max_size=3).map(tuple)
)


def test_what_is_owed_is_found_again_and_then_forgotten(tmp_path: Path) -> None:
    directory = tmp_path / "volumes" / "x"
    journal = HookJournal(str(directory))
    assert journal.read() is None
    journal.clear()
    journal.write(DEBT)
    assert HookJournal(str(directory)).read() == DEBT
    assert (directory / "hooks").stat().st_mode & 0o777 == 0o600
    journal.clear()
    assert HookJournal(str(directory)).read() is None


def test_a_damaged_record_says_what_it_means(tmp_path: Path) -> None:
    (tmp_path / "hooks").write_bytes(pack(DEBT).replace(b"vg0/x", b"vg0/y"))
    with pytest.raises(StateError, match="damaged") as caught:
        HookJournal(str(tmp_path)).read()
    assert "may still be held" in caught.value.sentences()


@given(debts)
def test_every_record_is_read_as_it_was_written(debt: Debt) -> None:
    assert unpack(pack(debt)) == debt


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_a_state_error(data: bytes) -> None:
    with pytest.raises(StateError):
        unpack(data)


@given(debts, st.data())
def test_no_single_changed_byte_passes(debt: Debt, data: st.DataObject) -> None:
    whole = bytearray(pack(debt).rstrip(b"\n"))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateError):
        unpack(bytes(whole))
