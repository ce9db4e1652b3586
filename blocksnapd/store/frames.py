"""Frames: blocks compressed and sealed together, and back. Pure.

See FORMAT.md § 6. Both directions spend their time in libraries that release the interpreter lock.
A larger frame compresses better and costs fewer steps; a smaller one is cheaper to read one block
of. Its size is the writer's choice, told by each pack.
"""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from blocksnapd.errors import ChecksumError, RepositoryFormatError
from blocksnapd.packing import FRAME_SIZES
from blocksnapd.store.compression import compress, decompress_exact, decompress_into
from blocksnapd.store.seal import TAG_SIZE, Scope, damaged

FRAME_SIZE_MAX = FRAME_SIZES[-1]
FRAME_SUM_SIZE = 8
_GAIN_MIN = 0.03  # below it a frame is kept raw: reading it back is then free
_SUM_CONTEXT = "blocksnap 1 2026 sums of sealed frames"


def frame_blocks(block_size: int, frame_size: int) -> int:
    """Return how many blocks a whole frame of ``frame_size`` bytes holds."""
    return frame_size // block_size


@dataclass(frozen=True, slots=True)
class FrameCodec:
    """Seals and opens the frames of one pack."""

    scope: Scope
    key: bytes

    def seal(self, number: int, data: memoryview, level: int, frame_size: int) -> list[bytes]:
        """Return ``data`` as frames from ``number`` on; all but the last are whole."""
        cipher, aad = AESGCM(self.key), self.scope.binding("frame")
        frames = []
        for at in range(0, len(data), frame_size):
            plain = _squeeze(data[at : at + frame_size], level)
            nonce = number.to_bytes(12, "little")
            frames.append(cipher.encrypt(nonce, plain, b"%b\0%d" % (aad, number)))
            number += 1
        return frames

    def open(self, number: int, frame: memoryview, size: int) -> bytes:
        """Return the ``size`` bytes of blocks in frame ``number``.

        Raises:
            ChecksumError: it is not the frame that was written there.
            RepositoryFormatError: it was sealed so, but holds something else.
        """
        try:
            plain = AESGCM(self.key).decrypt(*self._place(number, frame))
        except InvalidTag:
            raise self._damaged(number) from None
        if len(plain) == size:
            return plain
        try:
            return decompress_exact(plain, size)
        except RepositoryFormatError as error:
            raise self._wrong(number, error) from error

    def open_into(
        self, number: int, frame: memoryview, view: memoryview, scratch: memoryview
    ) -> None:
        """Fill ``view`` with the blocks of frame ``number``, and new memory with nothing.

        ``scratch`` is at least as long as ``frame``. Raises as ``open``.
        """
        size = len(frame) - TAG_SIZE
        plain = view if size == len(view) else scratch[: max(0, size)]
        try:
            AESGCM(self.key).decrypt_into(*self._place(number, frame), plain)
        except (InvalidTag, ValueError):  # the second: it has not even the size of a tag
            raise self._damaged(number) from None
        if size == len(view):
            return
        try:
            decompress_into(plain, view)
        except RepositoryFormatError as error:
            raise self._wrong(number, error) from error

    def _place(self, number: int, frame: memoryview) -> tuple[bytes, memoryview, bytes]:
        nonce = number.to_bytes(12, "little")
        return nonce, frame, b"%b\0%d" % (self.scope.binding("frame"), number)

    def _damaged(self, number: int) -> ChecksumError:
        return damaged(f"frame {number} of {self.scope.name}")

    def _wrong(self, number: int, error: RepositoryFormatError) -> RepositoryFormatError:
        where = f"frame {number} of {self.scope.name}"
        return RepositoryFormatError(f"{where}: {error.message}")


def sealed_size_max(block_size: int, blocks: int) -> int:
    """Return the largest a sealed frame of so many blocks can be."""
    return blocks * block_size + TAG_SIZE


def frame_sum_key(hash_key: bytes) -> bytes:
    """Return the key of ``frame_sum``, which whoever holds the hash key can make."""
    return blake3(hash_key, derive_key_context=_SUM_CONTEXT).digest()


def frame_sum(frame: bytes | memoryview, key: bytes) -> bytes:
    """Return 8 bytes that show, without opening it, whether a sealed frame is what was written."""
    return blake3(frame, key=key).digest(length=FRAME_SUM_SIZE)


def _squeeze(data: memoryview, level: int) -> bytes | memoryview:
    # A compressor has returned garbage before (restic #4523): what does not read back is kept raw.
    packed = compress(data, level)
    if len(packed) > len(data) * (1 - _GAIN_MIN):
        return data
    try:
        # Of the same size, it starts with the data only if it is the data; unlike ==, this takes
        # any buffer, and compares it without a copy.
        same = decompress_exact(packed, len(data)).startswith(data)
    except RepositoryFormatError:
        same = False
    return packed if same else data
