"""The outline of a point is what its header says, without any key."""

from __future__ import annotations

import pytest

from blocksnapd.errors import FormatError
from blocksnapd.store.outline import read_outline
from tests.store.support import Lab


def test_an_outline_is_what_the_point_says() -> None:
    lab = Lab()
    lab.write(range(8), noise=True)
    point = lab.commit()
    found = read_outline(lab.store, point.name, lab.keys.source.repository_id)
    facts = point.facts
    assert (found.seq, found.point_id, found.time) == (point.seq, facts.point_id, facts.time)
    assert (found.size, found.block_size, found.kind) == (facts.size, facts.block_size, facts.kind)
    assert found.object_size == lab.store.size(point.name)
    with pytest.raises(FormatError):
        read_outline(lab.store, point.name, "0" * 32)
