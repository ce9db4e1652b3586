from __future__ import annotations

import subprocess
import sys

# Pieces that are left and taken again, as bytes of a line are; prints the pages that were cleared.
PIECES = """
import resource, sys
from blocksnapd.runtime.memory import keep_freed

if sys.argv[1] == "kept":
    assert keep_freed(8 << 20, piece_max=512 << 10)
def turn():
    return sum(len(piece) for piece in [bytes(256 << 10) for _ in range(8)])
turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def cleared_pages(how: str) -> int:
    argv = [sys.executable, "-c", PIECES, how]
    return int(subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout)


def test_memory_that_was_freed_is_kept_for_the_next_pieces() -> None:
    kept, returned = cleared_pages("kept"), cleared_pages("returned")
    assert kept < 1000 < returned, (kept, returned)
