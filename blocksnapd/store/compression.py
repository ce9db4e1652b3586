"""Zstandard with exact sizes: what comes from outside chooses no amount of memory. Pure."""

from __future__ import annotations

import threading

import zstandard

from blocksnapd.errors import RepositoryFormatError

_COLUMN_LEVEL = 3
_RLE_BLOCK = 1
_WINDOW_SIZE_MAX = 8 << 20  # of frames that are cut short; whole ones need no window


class _Contexts(threading.local):
    # A zstd context serves one thread at a time and is costly to make.
    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_SIZE_MAX)


_contexts = _Contexts()


def compress(data: bytes | memoryview, level: int = _COLUMN_LEVEL) -> bytes:
    """Return one zstd frame that states its content size."""
    made = _contexts.compressors.get(level)
    if made is None:
        made = _contexts.compressors[level] = zstandard.ZstdCompressor(level=level)
    return made.compress(data)


def decompress_exact(data: bytes | memoryview, size: int) -> bytes:
    """Return the ``size`` bytes that ``data``, one whole zstd frame, holds.

    Raises:
        RepositoryFormatError: it is no such frame, or of another size; at most ``size`` bytes
            were allocated.
    """
    try:
        _check_claim(data, size)
        return _contexts.decompressor.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise RepositoryFormatError(f"compressed data is damaged: {error}") from error


def decompress_into(data: bytes | memoryview, view: memoryview) -> None:
    """Fill ``view`` with the bytes that ``data``, one whole zstd frame, holds.

    Raises:
        RepositoryFormatError: it is no such frame, or of another size.
    """
    try:
        _check_claim(data, len(view))
        if not len(view):  # which the library's reader does not take
            decompress_exact(data, 0)
            return
        with _contexts.decompressor.stream_reader(data) as reader:
            if reader.readinto(view) != len(view):
                raise RepositoryFormatError("compressed data ends early")
        if _frame_size(data) != len(data):
            raise RepositoryFormatError("compressed data does not end where its frame does")
    except zstandard.ZstdError as error:
        raise RepositoryFormatError(f"compressed data is damaged: {error}") from error


def _check_claim(data: bytes | memoryview, size: int) -> None:
    # The library allocates what the frame header claims, whatever limit it is given.
    claimed = zstandard.get_frame_parameters(data).content_size
    if claimed != size:
        raise RepositoryFormatError(f"compressed data claims {claimed} bytes, not {size}")


def _frame_size(data: bytes | memoryview) -> int:
    # Of the first frame, block by block (RFC 8878, 3.1.1); 0: it does not end. The library's reader
    # does not tell.
    at, is_last = zstandard.frame_header_size(data), False
    while not is_last and at < len(data):
        header = int.from_bytes(data[at : at + 3], "little")
        is_last = bool(header & 1)
        at += 3 + (1 if header >> 1 & 3 == _RLE_BLOCK else header >> 3)
    return at + 4 * zstandard.get_frame_parameters(data).has_checksum if is_last else 0
