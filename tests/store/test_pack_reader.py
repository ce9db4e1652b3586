"""Reading packs: a block that is wrong is named, a pack that does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest

from blocksnapd.errors import ChecksumError, RepositoryFormatError
from tests.store.test_pack_writer import SIZE, make_pack, reader_of


@pytest.fixture(scope="module")
def made():
    return make_pack()


def test_a_reader_names_the_block_that_is_wrong(made):
    reader = reader_of(made[4])
    plain = bytearray(reader.frame(2))
    plain[5 * SIZE] ^= 1
    slots = np.arange(32, 48)
    assert reader.mismatched(slots, memoryview(plain)).tolist() == [n == 5 for n in range(16)]
    with pytest.raises(ChecksumError, match="slot 37"):
        reader.check(slots, memoryview(plain))


def test_a_reader_refuses_what_its_point_does_not_name(made):
    finished = made[4]
    with pytest.raises(RepositoryFormatError, match="not as its point says"):
        reader_of(finished, block_size=8192)
    with pytest.raises(ChecksumError, match="tail"):
        reader_of(finished, parts=[*finished.parts[:-1], finished.parts[-1][:-1] + b"x"])


def test_a_pack_that_ends_early_is_damaged(made):
    reader = reader_of(made[4])
    short = reader._store.objects["holder"][:50_000]
    reader._store.objects["holder"] = short
    with pytest.raises(ChecksumError, match="ends early"):
        reader.read(0, reader.frames)
