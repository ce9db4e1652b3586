"""Blocks of an image as arrays: which are zero, their identities, and the sum over all. Pure."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from blake3 import blake3

from blocksnapd.model import HASH_SIZE, U8, U64

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_Number = TypeVar("_Number", bound=np.number[Any])

# Odd 64-bit constants (fractional digits of the square and cube roots of small primes).
_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xBF58476D1CE4E5B9)
_MIX_C = np.uint64(0x94D049BB133111EB)
_LANES = (np.uint64(0x6A09E667F3BCC909), np.uint64(0xBB67AE8584CAA73B))


def hash_blocks(
    data: memoryview, block_size: int, key: bytes, which: Iterable[int] | None = None
) -> U8:
    """Return the identity of each block of ``data``: keyed BLAKE3, 16 bytes, shape (n, 16).

    ``data`` is contiguous and holds a whole number of blocks; of these, ``which`` says where the
    wanted ones begin, in bytes. The identity does not depend on where the block lies.
    """
    hasher, digests = blake3(key=key), []
    for at in range(0, len(data), block_size) if which is None else which:
        hasher.update(data[at : at + block_size])
        digests.append(hasher.digest(length=HASH_SIZE))
        hasher.reset()  # costs less than a new one
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, HASH_SIZE)


def nonzero_mask(data: memoryview, block_size: int) -> np.typing.NDArray[np.bool_]:
    """Return for each block of ``data`` whether it holds a byte other than zero, shape (n,)."""
    words = np.frombuffer(data, dtype=np.uint64).reshape(-1, block_size // 8)
    filled = np.asarray(words[:, 0] != 0)  # most content begins with something
    unsure = np.flatnonzero(~filled)
    if len(unsure) > len(filled) // 4:
        return np.asarray(words.any(axis=1))
    filled[unsure] = words[unsure].any(axis=1)
    return filled


def is_zero_hash(hashes: U8 | U64) -> np.typing.NDArray[np.bool_]:
    """Return which rows of ``hashes`` are the all-zero identity, the one of a zero block."""
    lanes = hashes.view(np.uint64).reshape(-1, 2)
    return np.asarray((lanes[:, 0] | lanes[:, 1]) == 0)  # any(axis=1) takes four times as long


def runs_of(blocks: U64) -> tuple[U64, U64]:
    """Return starts and lengths of the runs that ``blocks``, ascending, make up."""
    if not len(blocks):
        return blocks, blocks
    breaks = np.flatnonzero(blocks[1:] - blocks[:-1] != 1) + 1
    bounds = np.concatenate([[0], breaks, [len(blocks)]])
    return blocks[bounds[:-1]], (bounds[1:] - bounds[:-1]).astype(np.uint64)


def distinct(numbers: np.typing.NDArray[_Number]) -> np.typing.NDArray[_Number]:
    """Return ``numbers`` ascending, each once; numpy's own loads masked arrays for it (30 ms)."""
    ascending = np.sort(numbers)
    is_first = np.ones(len(ascending), dtype=np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=is_first[1:])
    return ascending[is_first]


def neighbours(numbers: U64) -> Iterator[tuple[int, int]]:
    """Yield where in ``numbers``, which need not ascend, each next one follows: index ranges."""
    breaks = np.flatnonzero(numbers[1:] != numbers[:-1] + np.uint64(1)) + 1
    bounds = [0, *breaks.tolist(), len(numbers)] if len(numbers) else []
    return itertools.pairwise(bounds)


def state_sum(blocks: U64, hashes: U8) -> int:
    """Return the sum, modulo 2**128, of one term per block with content.

    A term depends on the block's number and identity, so that a map which lost, doubled or
    exchanged an entry has another sum. Zero blocks (identity all zero) count nothing. The sum of
    an image is independent of order: it is updated by subtracting old and adding new terms. The
    two 64-bit lanes are summed apart; the high one is the second.
    """
    lanes = np.ascontiguousarray(hashes).view(np.uint64).reshape(-1, 2)
    present = ~is_zero_hash(lanes)
    total = 0
    for lane, salt in enumerate(_LANES):
        term = _mix(lanes[:, lane] ^ _mix(blocks + salt))
        total |= int(term[present].sum(dtype=np.uint64)) << (64 * lane)
    return total


def state_add(total: int, added: int, removed: int) -> int:
    """Return ``total + added - removed``, each a :func:`state_sum`, lane by lane."""
    mask = (1 << 64) - 1
    low = (total + added - removed) & mask
    high = ((total >> 64) + (added >> 64) - (removed >> 64)) & mask
    return high << 64 | low


def _mix(x: U64) -> U64:
    # The finalizer of SplitMix64: each output bit depends on each input bit.
    x = (x + _MIX_A).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * _MIX_B
    x = (x ^ (x >> np.uint64(27))) * _MIX_C
    return x ^ (x >> np.uint64(31))
