"""What goes over the control socket about pausing a volume, and about writing to it in place. Pure.

The rules of ``messages.py`` are those of this file.
"""

from __future__ import annotations

from typing import TypedDict


class PauseRequest(TypedDict, total=False):
    """POST /v1/volumes/{volume}/pause; without ``seconds`` until somebody resumes it."""

    seconds: float
    reason: str


class ResumeRequest(TypedDict, total=False):
    """POST /v1/volumes/{volume}/resume; ``force``: the mixture of two points is to be kept."""

    force: bool


class InPlaceRequest(TypedDict, total=False):
    """POST /v1/volumes/{volume}/in-place: what a worker that writes to a volume says of it.

    Without ``id`` it begins, and gets one; with it ``safety`` and ``writing`` are noted, and
    ``done`` ends it.
    """

    id: str
    point: str
    safety: str
    writing: bool
    done: bool


class Paused(TypedDict, total=False):
    """Why a volume makes no points by itself. ``id`` is there while it is restored in place.

    ``writing``: it may hold a mixture of ``safety``, the point from before, and ``point``.
    ``room``: bytes that can be written before its COW space is short; None: nobody knows.
    ``directory`` is where that space's file is.
    """

    schema: int
    since: str
    until: str | None
    reason: str
    who: str
    id: str
    point: str
    safety: str
    writing: bool
    room: int | None
    directory: str


class EndedViews(TypedDict):
    """Reply to POST /v1/volumes/{volume}/end-views: what was done, in sentences."""

    schema: int
    done: list[str]
