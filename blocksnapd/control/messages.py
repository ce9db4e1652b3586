"""What goes over the control socket: names, paths and the shapes of requests and replies. Pure.

HTTP/1.1 with JSON over a Unix socket; streams are lines of JSON. Every document carries
``schema`` = 1; fields only get added, values of enumerations may grow, so a reader ignores
what it does not know. Times are RFC 3339 in UTC with milliseconds, sizes are bytes,
durations are seconds.

Rule of this file: the standard library, ``errors`` and messages only, and little of it. The command
line client imports it and starts in a blink.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NotRequired, TypedDict

from blocksnapd.control.cow_messages import CowUse  # noqa: TC001 - schemas are made of it
from blocksnapd.control.pause_messages import Paused  # noqa: TC001 - schemas are made of it

if TYPE_CHECKING:
    from blocksnapd import errors

SCHEMA: Final = 1
DEFAULT_SOCKET: Final = "/run/blocksnap/control.sock"
DEFAULT_CONFIG: Final = "/etc/blocksnap/blocksnap.toml"
SOCKET_VARIABLE: Final = "BLOCKSNAP_SOCKET"
API_HEADER: Final = "Blocksnap-Api"
JSON_TYPE: Final = "application/json"
LINES_TYPE: Final = "application/x-ndjson"
PROBLEM_TYPE: Final = "application/problem+json"

RunKind = Literal["cycle", "restore", "in-place", "view", "verify", "prune", "export", "copy",
                  "drill"]  # fmt: skip
RunState = Literal["queued", "running", "done"]
RunResult = Literal["success", "warning", "failed", "skipped", "cancelled"]
VolumeState = Literal["protected", "late", "failing", "seeding", "unprotected"]
Severity = Literal["info", "warning", "error", "critical"]

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 10
EXIT_NOT_FOUND: Final = 11
EXIT_REFUSED: Final = 12
EXIT_WARNINGS: Final = 13
EXIT_DAMAGED: Final = 14
EXIT_BUSY: Final = 75
EXIT_NOT_ALLOWED: Final = 77
EXIT_CONFIG: Final = 78
EXIT_WAIT_OVER: Final = 124
EXIT_INTERRUPTED: Final = 130


class Problem(TypedDict, total=False):
    """An error as problem+json (RFC 9457); also the ``error`` of a run and a cause in status."""

    type: str
    status: int
    code: str
    message: str
    effect: str
    hint: str
    exit_code: int
    retryable: bool


class ProofMessage(TypedDict):
    """What checking the point before against the COW device's old content showed."""

    checked_blocks: int
    mismatched_blocks: int
    ranges: list[list[int]]


class Hold(TypedDict):
    """Since when, until when (None: for ever) and why nothing may drop a point."""

    since: str
    until: str | None
    reason: str


class Forgotten(TypedDict):
    """When a point was dropped, until when it can be brought back, and by which plan."""

    since: str
    until: str
    reason: str


class Point(TypedDict, total=False):
    """A restore point.

    ``note`` says how the question for it was understood. ``suspect`` is set when the next cycle
    found that the volume had held something else at the point's instant. ``held`` and
    ``forgotten`` are there only when it is.
    """

    schema: int
    id: str
    volume: str
    target: str
    seq: int
    time: str
    size: int
    block_size: int
    chunk_size: int
    kind: str
    method: str
    reason: str
    driver: str
    consistency: str
    changed_bytes: int
    shipped_bytes: int
    stored_bytes: int
    tags: list[str]
    proof: ProofMessage
    suspect: bool
    held: Hold
    forgotten: Forgotten
    note: str


class Who(TypedDict, total=False):
    """Who asked for something: the peer of the socket, as the kernel knows it."""

    pid: int
    uid: int
    login: str


class Policy(TypedDict, total=False):
    """What to keep, as ``[retention.NAME]`` says it; ``undelete`` in seconds."""

    keep: list[str]
    keep_tags: list[str]
    min_points: int
    max_delete_pct: float
    undelete: float


class RunRequest(TypedDict, total=False):
    """POST /v1/runs. ``to`` is absolute; ``overwrite`` says the operator agreed to lose it.

    ``target`` is one of several of a volume; left out: a cycle for each, a prune at the first.
    ``share``, from 0 to 1, is how much of the data a verification reads; left out: all of it.
    ``policy`` is for whoever prunes a repository without a configuration. An export is at the
    socket ``unix`` or the address ``listen``, of ``point`` or of all; its files are for TLS, and
    ``open`` says the operator agreed that whoever reaches the address may read. ``lease`` is shown
    to ``daemon``. A restore may make a ``new`` volume, and with ``allow_damaged`` list what is
    lost. A copy is of ``path``, percent-encoded, in volume ``part``, as an export may be.
    """

    kind: RunKind
    volume: str
    target: str
    point: str
    to: str
    tags: list[str]
    full: bool
    overwrite: bool
    dry_run: bool
    policy: Policy
    share: float
    unix: str
    listen: str
    writable: bool
    certificate: str
    certificate_key: str
    client_ca: str
    open: bool
    check: list[str]
    scratch: str
    restores: bool
    daemon: str
    lease: str
    merge: bool
    path: str
    part: int
    recursive: bool
    new: bool
    allow_damaged: bool
    damaged_list: str


class FilesQuery(TypedDict, total=False):
    """GET /v1/points/{selector}/files; without ``path``: which file systems there are."""

    path: str
    part: int
    recursive: bool
    long: bool


class Run(TypedDict, total=False):
    """One run, live or past. ``result``, ``ended`` and ``error`` are None until it is done."""

    schema: int
    id: str
    kind: RunKind
    volume: str
    target: str
    point: str
    to: str
    plan: str
    tags: list[str]
    full: bool
    state: RunState
    result: RunResult | None
    phase: str
    phases: dict[str, float]
    done_bytes: int
    expected_bytes: int
    rate: float
    eta: float | None
    queued: str
    started: str | None
    ended: str | None
    duration: float | None
    changed_bytes: int
    shipped_bytes: int
    stored_bytes: int
    suspend: float
    reason: str
    warnings: list[str]
    error: Problem | None
    who: Who
    drill: dict[str, Any]
    kept_bytes: int
    damaged_bytes: int
    damaged_list: str
    planned: dict[str, Any]


class Started(TypedDict):
    """Reply to POST /v1/runs; ``joined`` when such a run was under way already.

    ``others`` are the runs to a volume's further targets.
    """

    schema: int
    id: str
    joined: bool
    others: NotRequired[list[str]]


class PlannedPoint(TypedDict, total=False):
    """A point in a plan: kept for the reasons in ``why``, or forgotten.

    ``frees_bytes`` falls away when it alone goes; None when it is kept.
    """

    id: str
    seq: int
    time: str
    keep: bool
    why: list[str]
    frees_bytes: int | None


class Guard(TypedDict):
    """What speaks against doing a plan without asking: a word, and a sentence."""

    name: str
    text: str


class Plan(TypedDict, total=False):
    """What a prune would do, or did.

    ``frees_bytes``, for all of it together, is None when it was not measured. ``refused`` are
    the guards that spoke; who has read them may apply the plan all the same, until it expires.
    """

    schema: int
    id: str
    volume: str
    target: str
    created: str
    expires: str
    undelete_until: str
    points: list[PlannedPoint]
    keep: int
    forget: int
    frees_bytes: int | None
    refused: list[Guard]
    applied: bool


class HoldRequest(TypedDict, total=False):
    """POST /v1/points/{selector}/hold; without ``until`` it is for ever."""

    until: str
    reason: str


class VolumeStatus(TypedDict, total=False):
    """One volume in status. ``exposure`` is None as long as there is no point.

    ``keep`` has the rules of its retention; without any every point is kept for ever.
    """

    schema: int
    volume: str
    driver: str
    target: str
    state: VolumeState
    size: int
    every: float
    rpo: float
    exposure: float | None
    last_point: Point | None
    next_run: str | None
    retry: int
    last_run: Run | None
    active_run: Run | None
    cow: CowUse | None
    points: int
    keep: list[str]
    causes: list[Problem]
    paused: Paused | None


class TargetStatus(TypedDict, total=False):
    """One target in status. ``up`` is None until it was tried."""

    name: str
    url: str
    up: bool | None
    free_bytes: int | None
    message: str


class Status(TypedDict, total=False):
    """GET /v1/status."""

    schema: int
    version: str
    host: str
    pid: int
    now: str
    started: str
    uptime: float
    targets: list[TargetStatus]
    volumes: list[VolumeStatus]


class Event(TypedDict, total=False):
    """One line of the event log; ``seq`` only grows, over restarts too."""

    schema: int
    seq: int
    time: str
    type: str
    severity: Severity
    volume: str
    message: str
    data: dict[str, Any]


def format_time(seconds: float) -> str:
    """Return an instant (seconds since the epoch) as RFC 3339 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Return the instant that ``format_time`` wrote.

    Raises:
        ValueError: not such a text.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(UTC)


def problem(error: errors.BlocksnapError) -> Problem:
    """Return an error of ours as the message that carries it."""
    return {
        "type": "error",
        "code": error.code,
        "message": error.message,
        "effect": error.effect,
        "hint": error.hint,
        "exit_code": error.exit_code,
        "retryable": error.retryable,
    }


def failed_exit_code(found: Problem | None) -> int:
    """Return what the client ends with for a problem; 1 when it does not say."""
    code = (found or {}).get("exit_code", EXIT_FAILED)
    return code if isinstance(code, int) and 0 < code < 256 else EXIT_FAILED


def looks_like_point(text: str) -> bool:
    """Say whether a VOLUME|POINT argument names a point: it has an ``@``, a prefix or no slash."""
    return "@" in text or text.startswith("latest:") or "/" not in text
