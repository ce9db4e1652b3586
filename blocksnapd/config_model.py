"""What the configuration may say and what comes out of it, as frozen models. Pure.

``Settings`` is a table of the file as written, where nearly everything may be left out;
``Volume`` is the finished result, in which nothing is missing.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from blocksnapd.keep_rules import Rule, parse_rule
from blocksnapd.model import Access
from blocksnapd.pace import STALL_S, Limit, Traffic, Window, parse_window
from blocksnapd.packing import FRAME_SIZES, LEVELS, PACKING_DEFAULT, PACKINGS, Packing
from blocksnapd.s3_url import is_s3, parse_s3_url
from blocksnapd.units import (
    GIB,
    KIB,
    format_size,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SOCKET_PATH_MAX = 107  # bytes of sockaddr_un.sun_path without the end mark

Driver: TypeAlias = Literal["lvm", "scan"]
HookMoment: TypeAlias = Literal["before-snapshot", "after-snapshot", "on-failure"]
OnError: TypeAlias = Literal["continue", "skip-run", "fail-run"]

LVM_NAME = re.compile(r"(?!-)(?!\.{1,2}$)[A-Za-z0-9+_.-]{1,127}")
NO_RETENTION = "none"  # said by a volume whose defaults have one
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
SHORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def _in_text(convert: Callable[[Any], object], written: Any = str) -> BeforeValidator:
    """Let ``convert`` make the value; the schema of the file says that it is ``written`` so."""
    return BeforeValidator(convert, json_schema_input_type=written)


def _from_text(parse: Callable[[str], Any], example: str) -> BeforeValidator:
    def convert(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError(f"must be a text with a unit, like {example}")
        return parse(value)

    return _in_text(convert)


def _rule(value: object) -> Rule:
    if not isinstance(value, str):
        raise ValueError("must be a text like 'all for 2h' or '1/h for 2d'")
    return parse_rule(value)


def _window(value: object) -> Window:
    if not isinstance(value, str):
        raise ValueError("must be a text like 'Mon..Fri 08:00-18:00'")
    return parse_window(value)


def _limits(value: object) -> object:
    return [{"limit": value}] if isinstance(value, str) else value


def _packing(value: object) -> Packing:
    if isinstance(value, str) and value in PACKINGS:
        return PACKINGS[value]
    if not isinstance(value, dict) or not set(value) <= {"level", "frame"}:
        names = " or ".join(f"'{name}'" for name in PACKINGS)
        raise ValueError(f"must be {names}, or {{ level = 9, frame = '256 KiB' }}")
    level = value.get("level", PACKING_DEFAULT.level)
    frame = value.get("frame")
    size = PACKING_DEFAULT.frame_size if frame is None else parse_size(str(frame))
    if not isinstance(level, int) or not LEVELS[0] <= level <= LEVELS[1] or level == 0:
        raise ValueError(f"has a level that is none from {LEVELS[0]} to {LEVELS[1]}")
    if size not in FRAME_SIZES:
        raise ValueError(f"has a frame that is none of {', '.join(map(format_size, FRAME_SIZES))}")
    return Packing(level, size)


def _share_per_day(value: object) -> float:
    share = re.sub(r" ?(?:/ ?|per )(?:d|day)$", "", str(value))
    if share == value:
        raise ValueError(f"{value!r} is not a share of each day; write it like '5%/day'")
    return parse_share(share)


def _power_of_two(low: int, high: int) -> AfterValidator:
    def check(value: int) -> int:
        if not low <= value <= high or value & (value - 1):
            raise ValueError(
                f"must be a power of two from {format_size(low)} to {format_size(high)}"
            )
        return value

    return AfterValidator(check)


def _absolute(value: str) -> str:
    if not posixpath.isabs(value):
        raise ValueError(f"must be an absolute path, not {value!r}")
    return value


def _program(argv: tuple[str, ...]) -> tuple[str, ...]:
    if any("\0" in word for word in argv):
        raise ValueError("has a NUL character, which no argument can have")
    _absolute(argv[0])
    return argv


def _socket_path(value: str) -> str:
    if len(_absolute(value).encode()) > SOCKET_PATH_MAX:
        raise ValueError(f"is longer than a socket's path may be ({SOCKET_PATH_MAX} bytes)")
    return value


def _place_url(value: str) -> str:
    if is_s3(value):
        parse_s3_url(value)
        return value
    parts = urlsplit(value)
    if parts.scheme not in {"", "file"} or parts.netloc or not parts.path.startswith("/"):
        raise ValueError(
            f"{value!r} is neither a local directory, written like '/srv/blocksnap' or "
            "'file:///srv/blocksnap', nor a place in object storage, 's3://bucket/prefix'"
        )
    return value


def _vg_name(value: str) -> str:
    if not LVM_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a name of a volume group")
    return value


class Listen(NamedTuple):
    """A TCP address to listen on."""

    host: str
    tcp_port: int


def parse_listen(value: object) -> Listen:
    """Return the address that a text like ``127.0.0.1:10085`` is; ValueError: it is none."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+):(\d{1,5})", str(value))
    if not found or not 0 < int(found[2]) < 65536:
        raise ValueError(f"{value!r} is not an address like '127.0.0.1:10085' or '[::1]:10085'")
    return Listen(found[1].strip("[]"), int(found[2]))


Duration = Annotated[float, _from_text(parse_duration, "'5m' or '10s'"), Field(gt=0)]
Size = Annotated[int, _from_text(parse_size, "'64 KiB' or '10 GiB'"), Field(ge=0)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]


class Frozen(BaseModel):
    """No unknown keys, no guessing of types, no changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Daemon(Frozen):
    """``[daemon]``."""

    state_dir: AbsolutePath = "/var/lib/blocksnap"
    max_parallel_runs: Annotated[int, Field(ge=1, le=64)] = 2


class Control(Frozen):
    """``[control]``: root always may everything; groups widen that."""

    socket: Annotated[str, AfterValidator(_socket_path)] = "/run/blocksnap/control.sock"
    read_group: str | None = None
    admin_group: str | None = None


class MetricsEndpoint(Frozen):
    """``[metrics]``: where Prometheus may ask; an empty list switches it off."""

    listen: tuple[Annotated[Listen, _in_text(parse_listen)], ...] = Field(
        default=(Listen("127.0.0.1", 10085),), strict=False
    )


class Bandwidth(Frozen):
    """One of ``bandwidth``: bytes per second sent at most; ``when`` in the host's own time."""

    limit: Annotated[int, _from_text(parse_rate, "'40 MiB/s'"), Field(ge=16 * KIB)]
    when: Annotated[Window | None, _in_text(_window)] = None


class Target(Frozen):
    """``[target.NAME]``: a place to ship to; with ``maintenance_key`` the daemon prunes there.

    ``bandwidth`` limits what is sent, never what is read: of its limits the last one that holds
    counts. A call that moves no byte for ``stall_timeout`` is given up and tried again.
    ``credentials``: a file like ``~/.aws/credentials``, for object storage; else the environment.
    """

    url: Annotated[str, AfterValidator(_place_url)]
    source_key: AbsolutePath
    maintenance_key: AbsolutePath | None = None
    credentials: AbsolutePath | None = None
    bandwidth: Annotated[tuple[Bandwidth, ...], BeforeValidator(_limits), Field(strict=False)] = ()
    stall_timeout: Annotated[Duration, Field(ge=1)] = STALL_S

    @property
    def access(self) -> Access:
        """What opens the door there, and how to behave on the way."""
        limits = tuple(Limit(one.limit, one.when) for one in self.bandwidth)
        return Access(credentials=self.credentials, traffic=Traffic(limits, self.stall_timeout))


class CowSpace(Frozen):
    """``[cow.NAME]``: room for COW devices, a sparse file that becomes a PV of ``vg``.

    ``size`` is the file's apparent size; ``reserve`` is what must stay free on the disk under it.
    """

    file: AbsolutePath
    vg: Annotated[str, AfterValidator(_vg_name)]
    size: Size | None = None
    reserve: Size = GIB


class Retention(Frozen):
    """``[retention.NAME]``: what is kept; see ``keep_rules.py`` for the rules of ``keep``.

    ``max_delete_pct`` is the share of points that the daemon forgets at once without asking;
    ``undelete_s`` how long a forgotten point can be brought back.
    """

    keep: Annotated[
        tuple[Annotated[Rule, _in_text(_rule)], ...],
        Field(min_length=1, strict=False),
    ]
    keep_tags: tuple[Annotated[str, Field(min_length=1)], ...] = Field(default=(), strict=False)
    min_points: Annotated[int, Field(ge=1)] = 3
    max_delete_pct: Annotated[float, Field(ge=0, le=100, strict=False)] = 30.0
    undelete_s: Duration = Field(default=14 * 86_400.0, alias="undelete")


class Maintenance(Frozen):
    """``[maintenance]``: how often repositories are merged, pruned, collected and verified."""

    every_s: Annotated[Duration, Field(ge=1)] = Field(default=1800.0, alias="every")


class Verify(Frozen):
    """``verify``: how often structure is checked whole, and which share of the packs each day."""

    structure_s: Duration = Field(default=86_400.0, alias="structure")
    data_per_day: Annotated[float, _in_text(_share_per_day)] = Field(default=0.05, alias="data")


class Drill(Frozen):
    """``drill``: how often a point is restored to a scratch place and checked, and by what.

    ``key`` is a restore key, read by the process of the drill alone. ``run`` is an argv that ends
    with status 0 when it finds nothing wrong.
    """

    every_s: Annotated[Duration, Field(ge=60)] = Field(default=7 * 86_400.0, alias="every")
    key: AbsolutePath | None = None
    run: tuple[Annotated[str, Field(min_length=1)], ...] = Field(default=(), strict=False)
    scratch: AbsolutePath = "/var/tmp"  # noqa: S108 - for large files; the drill has its own there
    restores: bool = Field(default=True, alias="restore")
    timeout_s: Duration = Field(default=6 * 3600.0, alias="timeout")


class Retry(Frozen):
    """The wait after a failed run: ``first_s``, then ``factor`` times more, up to ``max_s``."""

    first_s: Duration = Field(default=10.0, alias="first")
    factor: Annotated[float, Field(ge=1, le=10, strict=False)] = 2.0
    max_s: Duration = Field(default=300.0, alias="max")


class Hook(Frozen):
    """``[[….hook]]``: a program run around a snapshot, or after a run that failed.

    ``run`` is an argv; ``timeout_s`` bounds how long the run waits for it. ``always``: also when
    there was no snapshot, and after a crash of the daemon in between. ``on_error``: what follows
    when it fails; its status 75 skips the run whatever that says.
    """

    at: HookMoment
    run: Annotated[
        tuple[str, ...],
        Field(min_length=1, strict=False),
        AfterValidator(_program),
    ]
    user: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*\$?$")] = "root"
    timeout_s: Annotated[Duration, Field(le=3600)] = Field(default=30.0, alias="timeout")
    on_error: OnError = "continue"
    always: bool = False

    @property
    def name(self) -> str:
        """What events and metrics call it: the moment and the program's own name."""
        return f"{self.at}:{posixpath.basename(self.run[0])}"

    @model_validator(mode="after")
    def _fits_its_moment(self) -> Hook:
        if self.always and self.at != "after-snapshot":
            raise ValueError("is marked always, which only after-snapshot can be")
        if self.on_error != "continue" and self.at == "on-failure":
            raise ValueError("is for a run that failed already: on_error can only be 'continue'")
        return self


class CowSettings(Frozen):
    """``cow`` of a volume or of the defaults."""

    space: str | None = None
    chunk: Annotated[Size, _power_of_two(4 * KIB, 512 * KIB)] = 4 * KIB
    freeze_max: Duration = 2.0


class Settings(Frozen):
    """What ``[defaults]`` and a volume's own table may say."""

    driver: Driver | None = None
    every: Annotated[Duration, Field(ge=1)] = 300.0
    rpo: Duration | None = None
    targets: tuple[str, ...] = Field(default=(), strict=False)
    retention: str | None = None
    verify: Verify = Verify()
    cow: CowSettings = CowSettings()
    retry: Retry = Retry()
    block_size: Annotated[Size, _power_of_two(4 * KIB, 64 * KIB)] = 4 * KIB
    compression: Annotated[Packing, _in_text(_packing, str | dict[str, int | str])] = (
        PACKING_DEFAULT
    )
    drill: Drill | None = None
    hooks: tuple[Hook, ...] = Field(default=(), strict=False, alias="hook")


class Cow(Frozen):
    """How a tracked volume's snapshots are made: in which space, with which chunks."""

    space: str
    chunk_size: int
    freeze_max_s: float


class Volume(Frozen):
    """One protected volume, finished.

    ``cow`` is None for the driver ``scan``; ``retention`` None: every point is kept for ever.
    """

    name: str
    driver: Driver
    target: str
    every_s: float
    rpo_s: float
    cow: Cow | None
    retry: Retry
    block_size: int
    compression: Packing
    retention: Retention | None = None
    verify: Verify = Verify()
    drill: Drill | None = None
    hooks: tuple[Hook, ...] = ()

    @property
    def device(self) -> str:
        """The path of its block device or file."""
        return self.name if self.name.startswith("/") else f"/dev/{self.name}"


class Config(Frozen):
    """The whole configuration."""

    path: str
    daemon: Daemon
    control: Control
    metrics: MetricsEndpoint
    maintenance: Maintenance
    targets: dict[str, Target]
    cow: dict[str, CowSpace]
    volumes: dict[str, Volume]
