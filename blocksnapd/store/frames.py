"""Frames: blocks compressed and sealed together, and back. Pure.

See FORMAT.md § 6. Both directions take many frames at a time and spend their time in
libraries that release the interpreter lock.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.compression import compress, decompress_exact
from blocksnapd.store.seal import TAG_SIZE, Scope, damaged

FRAME_SIZE = 65536
_GAIN_MIN = 0.03  # below it a frame is kept raw: reading it back is then free


def frame_blocks(block_size: int) -> int:
    """Return how many blocks a whole frame holds."""
    return FRAME_SIZE // block_size


@dataclass(frozen=True, slots=True)
class FrameCodec:
    """Seals and opens the frames of one pack."""

    scope: Scope
    key: bytes

    def seal(self, number: int, data: memoryview, level: int) -> list[bytes]:
        """Return ``data`` as frames from ``number`` on; all but the last are whole."""
        cipher, aad = AESGCM(self.key), self.scope.binding("frame")
        frames = []
        for at in range(0, len(data), FRAME_SIZE):
            plain = _squeeze(data[at : at + FRAME_SIZE], level)
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
        nonce = number.to_bytes(12, "little")
        aad = b"%b\0%d" % (self.scope.binding("frame"), number)
        try:
            plain = AESGCM(self.key).decrypt(nonce, frame, aad)
        except InvalidTag:
            raise damaged(f"frame {number} of {self.scope.name}") from None
        if len(plain) == size:
            return plain
        try:
            return decompress_exact(plain, size)
        except RepositoryFormatError as error:
            where = f"frame {number} of {self.scope.name}"
            raise RepositoryFormatError(f"{where}: {error.message}") from error


def sealed_size_max(block_size: int) -> int:
    """Return the largest a sealed frame can be."""
    return frame_blocks(block_size) * block_size + TAG_SIZE


def _squeeze(data: memoryview, level: int) -> bytes | memoryview:
    # A compressor has returned garbage before (restic #4523): what does not read back is kept raw.
    packed = compress(data, level)
    if len(packed) > len(data) * (1 - _GAIN_MIN):
        return data
    try:
        same = decompress_exact(packed, len(data)) == bytes(data)  # a view compares byte by byte
    except RepositoryFormatError:
        same = False
    return packed if same else data
