"""Problems cross the wire with their kind and words; anything else becomes a plain error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd import errors
from blocksnapd.store.names import check_name
from blocksnapd.store.receiver_wire import (
    TEXT_LENGTH_MAX,
    pack_problem,
    parse_count,
    parse_seconds,
    path_of,
    unpack_problem,
)

KINDS = (
    errors.StoreError, errors.StoreMissingError, errors.StoreFullError, errors.QuotaError,
    errors.StoreRefusedError, errors.ClockOffsetError, errors.ObjectExistsError, errors.BusyError,
    errors.RepositoryFormatError, errors.ChecksumError,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_arrives_as_what_it_was(kind):
    status, body = pack_problem(kind("it failed", effect="Nothing.", hint="Try again."))
    assert 400 <= status < 600
    found = unpack_problem(status, body, "https://r")
    assert type(found) is kind
    assert (found.message, found.effect, found.hint) == (
        "https://r says: it failed", "Nothing.", "Try again.",
    )  # fmt: skip


def test_an_error_that_the_other_side_does_not_know_is_still_told():
    found = unpack_problem(*pack_problem(errors.HostError("odd")), "https://r")
    assert (type(found), found.message) == (errors.StoreError, "https://r says: odd")


@given(st.binary(max_size=300), st.integers(300, 599))
def test_any_answer_gives_an_error(body, status):
    found = unpack_problem(status, body, "https://r")
    assert isinstance(found, errors.BlocksnapError)
    assert found.message


@given(st.dictionaries(st.sampled_from(["code", "message", "effect", "hint"]),
                       st.text() | st.integers() | st.none() | st.lists(st.text())))  # fmt: skip
def test_words_of_a_hostile_receiver_are_one_plain_line(said):
    found = unpack_problem(500, json.dumps(said).encode(), "https://r")
    for text in (found.message, found.effect, found.hint):
        assert text.isprintable()
        assert len(text) <= TEXT_LENGTH_MAX + 40


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+@=-]{0,20}(/[A-Za-z0-9][A-Za-z0-9._+@=-]{0,20}){0,4}",
                     fullmatch=True))  # fmt: skip
def test_a_name_is_its_own_path(name):
    assert path_of("objects", check_name(name)) == f"/v1/objects/{name}"


@given(st.text(max_size=30))
def test_numbers_are_numbers_or_nothing(text):
    count, seconds = parse_count(text), parse_seconds(text)
    assert count is None or count == int(text) >= 0
    assert seconds is None or 0 <= seconds < 1e11
    assert parse_count(None) is parse_seconds(None) is None
