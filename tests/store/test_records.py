"""Records: come back; whatever the library raises on damaged bytes is one documented error."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.records import pack_record, unpack_record


class Sample(msgspec.Struct):
    text: str
    data: bytes
    numbers: list[int]


samples = st.builds(
    Sample, st.text(max_size=9), st.binary(max_size=9), st.lists(st.integers(0, 2**64 - 1))
)


@given(samples)
def test_a_record_comes_back(sample):
    assert unpack_record(pack_record(sample), Sample, "it") == sample


@given(samples, st.data())
def test_a_changed_record_is_a_record_or_a_documented_error(sample, data):
    changed = bytearray(pack_record(sample))
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = unpack_record(bytes(changed), Sample, "it")
    except RepositoryFormatError:
        return
    assert isinstance(found, Sample)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x81\xa1z" + b"\x91" * 100_000, b"\x83\xa4text\xa1\xff",
     b"\x81\xa4data\xc6\xff\xff\xff\xff", b"\x81\xa7numbers\xdd\xff\xff\xff\xff\x01"],
)  # fmt: skip
def test_nesting_bad_text_and_claims_of_memory_are_refused(data):
    with pytest.raises(RepositoryFormatError, match="it is not readable"):
        unpack_record(data, Sample, "it")


def test_fields_of_a_later_version_are_passed_over():
    data = msgspec.msgpack.encode({"text": "", "data": b"", "numbers": [], "later": {"x": 1}})
    assert unpack_record(data, Sample, "it") == Sample("", b"", [])
