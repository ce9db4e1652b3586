"""repo.json: comes back; any bytes give a value or a documented error."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.repo_file import pack_repository, read_json_map, unpack_repository

GOOD = pack_repository("0123456789abcdef" * 2, datetime(2026, 1, 2, tzinfo=UTC), "ab" * 32)


def test_it_comes_back_and_tells_people_what_it_is():
    found = unpack_repository(GOOD)
    assert found.repository_id == "0123456789abcdef" * 2
    assert (found.created, found.keys) == ("2026-01-02T00:00:00+00:00", "ab" * 32)
    assert "Change no file by hand" in json.loads(GOOD)["purpose"]


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    with pytest.raises(RepositoryFormatError):
        unpack_repository(data)


json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([])


@given(st.sampled_from(sorted(json.loads(GOOD))), json_values)
def test_any_value_in_any_field_gives_a_value_or_a_documented_error(field, value):
    content = json.loads(GOOD) | {field: value}
    try:
        found = unpack_repository(json.dumps(content).encode())
    except RepositoryFormatError:
        return
    assert len(found.repository_id) == 32


@pytest.mark.parametrize(
    "data", [b"[" * 60_000, b'{"a":' * 10_000, b" " * 70_000 + b"{}", b"1e999"]
)
def test_deep_and_large_json_is_refused(data):
    with pytest.raises(RepositoryFormatError):
        read_json_map(data, "x")
