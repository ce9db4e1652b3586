"""Tables of packs come back; any bytes give packs within the limits or a documented error."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.pack_table import pack_refs, unpack_refs
from tests.store.layer_objects import pack_ref


@given(
    st.lists(st.tuples(st.integers(0, 1 << 16), st.sampled_from(["", "v/x/p/1.pt"])), max_size=9)
)
def test_packs_come_back(numbers):
    refs = [pack_ref(number, holder=holder) for number, holder in numbers]
    data, size = pack_refs(refs)
    assert unpack_refs(data, size, len(refs), "x") == refs


def test_a_pack_takes_little():
    refs = [pack_ref(number) for number in range(1000)]
    data, _ = pack_refs(refs)
    assert len(data) < 1000 * 90


def test_another_number_of_packs_is_refused():
    data, size = pack_refs([pack_ref(1), pack_ref(2)])
    for count in (0, 1, 3, 1 << 20):
        with pytest.raises(RepositoryFormatError):
            unpack_refs(data, size, count, "x")
    with pytest.raises(RepositoryFormatError):
        unpack_refs(data, size + 1, 2, "x")


@pytest.mark.parametrize(
    "changes",
    [{"size": 1 << 30}, {"size": 300}, {"tail_size": 1}, {"tail_size": 1 << 20}, {"blocks": 0},
     {"blocks": (1 << 20) + 1}, {"offset": 1 << 63}],
)  # fmt: skip
def test_packs_beyond_the_limits_are_refused(changes):
    data, size = pack_refs([msgspec.structs.replace(pack_ref(1), **changes)])
    with pytest.raises(RepositoryFormatError, match="beyond the limits"):
        unpack_refs(data, size, 1, "x")


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 4))
def test_any_bytes_are_packs_or_refused(data, size, count):
    with pytest.raises(RepositoryFormatError):
        unpack_refs(data, size, count + 1, "x")
