"""Memory for buffers: page-aligned for direct I/O, and no two share a byte."""

from __future__ import annotations

import numpy as np

from blocksnapd.runtime.buffers import buffers


def test_buffers_are_aligned_zeroed_and_apart() -> None:
    made = buffers(3, 1 << 20)
    arrays = [np.frombuffer(view, dtype=np.uint8) for view in made]
    assert [len(view) for view in made] == [1 << 20] * 3
    assert not any(array.any() for array in arrays)
    assert all(array.ctypes.data % 4096 == 0 for array in arrays)
    for number, array in enumerate(arrays, start=1):
        array[:] = number
    assert [np.unique(array).tolist() for array in arrays] == [[1], [2], [3]]
