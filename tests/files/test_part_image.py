"""Part of an image is an image: the same bytes, the same holes, whatever it is made of."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import FormatError
from blocksnapd.files.part_image import PartImage
from blocksnapd.files.source import ImageSource, Pieces, Striped
from tests.restore.memory_image import MemoryImage


def whole(seed: int) -> MemoryImage:
    """Return an image with holes, also at odd places."""
    dice = random.Random(seed)
    content = bytearray(40 * 512)
    for _ in range(dice.randrange(8)):
        at = dice.randrange(len(content) - 700)
        content[at : at + dice.randrange(700)] = dice.randbytes(700)[: dice.randrange(700)]
    return MemoryImage(bytes(content[: 40 * 512]).ljust(40 * 512, b"\0"), 512)


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_a_part_is_an_image(seed: int) -> None:
    dice, image = random.Random(seed), whole(seed)
    source = ImageSource(image)
    pieces = [(source, 512 * dice.randrange(20), 512 * dice.randrange(1, 9)) for _ in range(3)]
    below = Pieces(pieces)
    stripes = Striped([(below, 0), (below, 512)], 256, 1024)
    part = PartImage(image, dice.choice([below, Pieces([(below, 512, 1024)]), stripes]))
    content = bytearray(part.size)
    part.read_into(0, memoryview(content))
    start, end = sorted(dice.randrange(part.size + 1) for _ in range(2))
    found = part.data_extents(start, end)
    assert (found.starts[1:] > found.ends[:-1]).all(), "ascending, and none touches another"
    told = bytearray(end - start)
    for low, high in zip(found.starts.tolist(), found.ends.tolist(), strict=True):
        assert start <= low < high <= end
        told[low - start : high - start] = content[low:high]
    assert told == content[start:end], "where nothing is told of there is nothing"
    assert part.data_extents().size <= part.size
    if start < end:
        some = bytearray(end - start)
        part.read_into(start, memoryview(some))
        assert some == content[start:end]
    with pytest.raises(FormatError):
        part.read_into(part.size - 1, memoryview(bytearray(2)))
