"""The short code as it is shown and as people type it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import UsageError
from blocksnapd.pki.codes import ALPHABET, LENGTH, new_code, read_code


def test_a_code_is_read_as_it_is_shown():
    codes = {new_code() for _ in range(500)}
    assert len(codes) == 500
    for code in codes:
        assert read_code(code) == code.replace("-", "")


@pytest.mark.parametrize("typed", ["k7qm-2x0a", " K7QM 2XOA\n", "k7qm2xoa", "K-7-Q-M-2-X-0-A"])
def test_it_may_be_typed_in_several_ways(typed):
    assert read_code(typed) == "K7QM2X0A"
    assert read_code("iLiL-oooo") == "11110000"


@given(st.text(max_size=20))
def test_any_text_is_a_code_or_refused(text):
    try:
        code = read_code(text)
    except UsageError:
        return
    assert len(code) == LENGTH
    assert set(code) <= set(ALPHABET)
