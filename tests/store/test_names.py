"""Names: what is made parses, what does not fit is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import RepositoryFormatError, UsageError
from blocksnapd.store.names import (
    check_name,
    check_volume_id,
    is_point_name,
    pack_name,
    parse_pack_name,
    parse_point_name,
    point_name,
    repacked_name,
)

volumes = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+@=-]{0,127}", fullmatch=True)
ids = st.from_regex(r"p[0-9a-f]{16}", fullmatch=True)


@given(volumes, st.integers(0, 2**64 - 1), ids)
def test_a_point_name_comes_back(volume, seq, point_id):
    name = point_name(volume, seq, point_id)
    assert check_name(name) == name
    assert parse_point_name(name) == (volume, seq, point_id)


@given(volumes, ids, st.integers(0, 0xFFFF))
def test_a_pack_name_is_a_name(volume, point_id, number):
    name = pack_name(volume, "20260102", point_id, number, "0a1b2c3d")
    assert check_name(name) == name
    assert not is_point_name(name)
    assert parse_pack_name(name) == (volume, "20260102", point_id)


def test_packs_of_very_large_points_and_of_repacking_have_names():
    name = pack_name("v", "20260102", "p" + "0" * 16, 0x12345, "0a1b2c3d")
    assert parse_pack_name(name).session == "p" + "0" * 16
    name = repacked_name("v", "20260102", 7, 3, "0a1b2c3d")
    assert check_name(name) == name
    assert parse_pack_name(name) == ("v", "20260102", "r0000000000000007")
    with pytest.raises(RepositoryFormatError, match="not the name of a pack"):
        parse_pack_name(point_name("v", 1, "p" + "0" * 16))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_names_sort_by_sequence(numbers):
    names = [point_name("v", seq, "p" + "0" * 16) for seq in numbers]
    assert [parse_point_name(n).seq for n in sorted(names)] == sorted(numbers)


@given(st.text(max_size=60))
def test_any_text_is_a_safe_name_or_refused(text):
    try:
        name = check_name(text)
    except RepositoryFormatError:
        return
    assert not name.startswith("/")
    assert all(part and not part.startswith(".") for part in name.split("/"))


@pytest.mark.parametrize("volume", ["", ".", "..", "a/b", "-x", "a b", "x" * 129, "é"])
def test_a_volume_that_cannot_stand_in_a_name_is_refused(volume):
    with pytest.raises(UsageError):
        check_volume_id(volume)
