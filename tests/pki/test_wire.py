"""The messages of pairing: packed, unpacked, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import FormatError
from blocksnapd.pki.wire import (
    MESSAGE_SIZE_MAX,
    Begin,
    Begun,
    Finish,
    Issued,
    Renew,
    Renewed,
    pack,
    unpack,
)

KINDS = (Begin, Begun, Finish, Issued, Renew, Renewed)


@given(
    st.builds(Begin, st.text(max_size=70), st.binary(max_size=40))
    | st.builds(Finish, st.text(), st.binary(), st.text(), st.binary())
    | st.builds(Issued, st.binary(), st.binary(), st.binary())
    | st.builds(Renew, st.binary())
)
def test_what_was_packed_is_what_is_unpacked(message):
    assert unpack(pack(message), type(message)) == message


@given(st.binary(max_size=200), st.sampled_from(KINDS))
def test_any_bytes_give_a_value_or_an_error_of_ours(data, kind):
    try:
        assert isinstance(unpack(data, kind), kind)
    except FormatError:
        return


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"holder": 1, "message": ""}', b'{"holder": "a", "message": "%"}',
     b"[" * 30_000, b'{"holder": "a"}', b" " * (MESSAGE_SIZE_MAX + 1) + b"{}"],
)  # fmt: skip
def test_what_is_no_message_is_refused(data):
    with pytest.raises(FormatError, match="no Begin of a pairing"):
        unpack(data, Begin)
