"""One number for a set of map entries (block, pack, slot), the same however runs are cut. Pure.

See FORMAT.md § 11. A merge may lose nothing but what newer entries hide: the sums of its inputs,
less that of what is hidden, must be the sum of its output. It shows a lost, doubled, moved or
exchanged entry; it is no defence against forgery, which sealing is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, ZERO, Runs

if TYPE_CHECKING:
    from blocksnapd.model import U64

_BLOCK_SALT = np.uint64(0x6A09E667F3BCC909)
_SLOT_SALT = np.uint64(0xBB67AE8584CAA73B)
_ZERO_WEIGHT = np.uint64(0x3C6EF372FE94F82B)
_MASK = (1 << 64) - 1
_ONE, _THREE = np.uint64(1), np.uint64(3)


def pack_weight(name: str) -> int:
    """Return the weight of the pack ``name``: an odd u64."""
    return int.from_bytes(blake3(name.encode()).digest(8), "little") | 1


def entry_sum(runs: Runs, weights: U64) -> int:
    """Return the sum over all entries of ``runs``, in any order, modulo 2**64.

    An entry with content counts weight(pack) * (block + salt) * (slot + salt), one of zeros
    weight * (block + salt). ``weights[i]`` is that of pack ``i``; every location is within them,
    and runs of content have at most 2**20 blocks.
    """
    if not len(runs):
        return 0
    is_zero = runs.locations == ZERO
    if not is_zero.any():
        return _content(runs, weights)
    zeros = runs.take(is_zero)
    blocks = zeros.lengths * (zeros.starts + _BLOCK_SALT) + _below(zeros.lengths)
    total = int((_ZERO_WEIGHT * blocks).sum(dtype=np.uint64))
    return (total + _content(runs.take(~is_zero), weights)) & _MASK


def _content(runs: Runs, weights: U64) -> int:
    blocks = runs.starts + _BLOCK_SALT
    slots = (runs.locations & SLOT_MASK) + _SLOT_SALT
    packs = weights[runs.locations >> SLOT_BITS]
    terms = blocks * slots
    longer = np.flatnonzero(runs.lengths != _ONE)
    if len(longer):
        # The sum over i < n of (block + i) * (slot + i).
        n, block, slot = runs.lengths[longer], blocks[longer], slots[longer]
        terms[longer] = n * block * slot + (block + slot) * _below(n) + _squares_below(n)
    return int((packs * terms).sum(dtype=np.uint64))


def _below(n: U64) -> U64:
    # 0 + 1 + … + (n-1), exact modulo 2**64: the even factor is halved first.
    half = n >> _ONE
    odd = n & _ONE
    return np.where(odd == _ONE, n * half, half * (n - _ONE))


def _squares_below(n: U64) -> U64:
    # 0 + 1 + 4 + … + (n-1)**2; nothing overflows where n is at most 2**20.
    return _below(n) * ((n << _ONE) - _ONE) // _THREE
