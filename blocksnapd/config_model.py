"""What the configuration may say and what comes out of it, as frozen models. Pure.

``Settings`` is a table of the file as written, where nearly everything may be left out;
``Volume`` is the finished result, in which nothing is missing.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from blocksnapd.config_cow import Cow, CowSettings
from blocksnapd.config_values import (
    AbsolutePath,
    Duration,
    Frozen,
    KeepRule,
    Listen,
    Size,
    from_text,
    in_text,
    limits,
    packing,
    parse_listen,
    place_url,
    power_of_two,
    program,
    share_per_day,
    socket_path,
    vg_name,
    window,
)
from blocksnapd.model import Access
from blocksnapd.pace import STALL_S, Limit, Traffic, Window
from blocksnapd.packing import PACKING_DEFAULT, Packing
from blocksnapd.receiver_url import is_receiver, is_ssh
from blocksnapd.units import (
    GIB,
    KIB,
    parse_rate,
)

Driver: TypeAlias = Literal["lvm", "scan"]
HookMoment: TypeAlias = Literal["before-snapshot", "after-snapshot", "on-failure"]
OnError: TypeAlias = Literal["continue", "skip-run", "fail-run"]

NO_RETENTION = "none"  # said by a volume whose defaults have one
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
SHORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class Daemon(Frozen):
    """``[daemon]``."""

    state_dir: AbsolutePath = "/var/lib/blocksnap"
    max_parallel_runs: Annotated[int, Field(ge=1, le=64)] = 2


class Control(Frozen):
    """``[control]``: root always may everything; groups widen that."""

    socket: Annotated[str, AfterValidator(socket_path)] = "/run/blocksnap/control.sock"
    read_group: str | None = None
    admin_group: str | None = None


class MetricsEndpoint(Frozen):
    """``[metrics]``: where Prometheus may ask; an empty list switches it off."""

    listen: tuple[Annotated[Listen, in_text(parse_listen)], ...] = Field(
        default=(Listen("127.0.0.1", 10085),), strict=False
    )


class Bandwidth(Frozen):
    """One of ``bandwidth``: bytes per second sent at most; ``when`` in the host's own time."""

    limit: Annotated[int, from_text(parse_rate, "'40 MiB/s'"), Field(ge=16 * KIB)]
    when: Annotated[Window | None, in_text(window)] = None


class Target(Frozen):
    """``[target.NAME]``: a place to ship to; with ``maintenance_key`` the daemon prunes there.

    ``bandwidth`` limits what is sent, never what is read: of its limits the last one that holds
    counts. A call that moves no byte for ``stall_timeout`` is given up and tried again.
    ``ca``, ``cert``, ``key``: PEM files for a receiver, read again when they change; the key may
    be in the file of the certificate.
    ``credentials``: a file like ``~/.aws/credentials``, for object storage; else the environment.

    ``ca``, ``cert`` and ``key`` open a receiver, as ``blocksnapctl pair`` prints them: the key may
    be in the file of the certificate. For ``ssh://`` they are a known_hosts file, nothing, and the
    private key; what is left out is up to ssh.
    """

    url: Annotated[str, AfterValidator(place_url)]
    source_key: AbsolutePath
    maintenance_key: AbsolutePath | None = None
    credentials: AbsolutePath | None = None
    ca: AbsolutePath | None = None
    cert: AbsolutePath | None = None
    key: AbsolutePath | None = None
    bandwidth: Annotated[tuple[Bandwidth, ...], BeforeValidator(limits), Field(strict=False)] = ()
    stall_timeout: Annotated[Duration, Field(ge=1)] = STALL_S

    @model_validator(mode="after")
    def _has_certificates(self) -> Self:
        if is_receiver(self.url) and not is_ssh(self.url) and not (self.ca and self.cert):
            raise ValueError("is a receiver, so it needs ca and cert: see blocksnapctl pair")
        return self

    @property
    def access(self) -> Access:
        """What opens the door there, and how to behave on the way."""
        limits = tuple(Limit(one.limit, one.when) for one in self.bandwidth)
        return Access(
            ca=self.ca, cert=self.cert, key=self.key, credentials=self.credentials,
            traffic=Traffic(limits, self.stall_timeout),
        )  # fmt: skip


class CowSpace(Frozen):
    """``[cow.NAME]``: room for COW devices, a sparse file that becomes a PV of ``vg``.

    ``size`` is the file's apparent size; ``reserve`` is what must stay free on the disk under it.
    """

    file: AbsolutePath
    vg: Annotated[str, AfterValidator(vg_name)]
    size: Size | None = None
    reserve: Size = GIB


class Retention(Frozen):
    """``[retention.NAME]``: what is kept; see ``keep_rules.py`` for the rules of ``keep``.

    ``max_delete_pct`` is the share of points that the daemon forgets at once without asking;
    ``undelete_s`` how long a forgotten point can be brought back.
    """

    keep: Annotated[
        tuple[KeepRule, ...],
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
    data_per_day: Annotated[float, in_text(share_per_day)] = Field(default=0.05, alias="data")


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
        AfterValidator(program),
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


class Settings(Frozen):
    """What ``[defaults]`` and a volume's own table may say.

    ``retention`` names what is kept at every target, or by the name of each.
    """

    driver: Driver | None = None
    every: Annotated[Duration, Field(ge=1)] = 300.0
    rpo: Duration | None = None
    targets: tuple[str, ...] = Field(default=(), strict=False)
    retention: str | dict[str, str] | None = None
    verify: Verify = Verify()
    cow: CowSettings = CowSettings()
    retry: Retry = Retry()
    block_size: Annotated[Size, power_of_two(4 * KIB, 64 * KIB)] = 4 * KIB
    compression: Annotated[Packing, in_text(packing, str | dict[str, int | str])] = PACKING_DEFAULT
    drill: Drill | None = None
    hooks: tuple[Hook, ...] = Field(default=(), strict=False, alias="hook")


class Volume(Frozen):
    """One protected volume and one target of it, finished.

    ``cow`` is None for the driver ``scan``; ``retention`` None: every point is kept for ever.
    ``further`` are its other targets, each with what is kept there: see ``lanes``.
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
    further: dict[str, Retention | None] = Field(default={})

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of all its targets."""
        return (self.target, *self.further)

    @property
    def lanes(self) -> tuple[Volume, ...]:
        """The volume once for each of its targets, in the order of the configuration."""
        kept = {self.target: self.retention, **self.further}
        return tuple(
            self.model_copy(update={
                "target": target, "retention": retention,
                "further": {other: r for other, r in kept.items() if other != target},
            })
            for target, retention in kept.items()
        )  # fmt: skip

    @property
    def label(self) -> str:
        """What tells this volume and target from all others: its name where it has one target."""
        return f"{self.name} → {self.target}" if self.further else self.name

    @property
    def device(self) -> str:
        """The path of its block device or file."""
        return self.name if self.name.startswith("/") else f"/dev/{self.name}"


class Export(Frozen):
    """``[export.NAME]``: the points of a target as disks over NBD, while the daemon runs.

    ``key`` is a restore key, read by the export's process alone. ``unix`` is the path of a socket,
    ``listen`` a TCP address. With ``writable`` each client writes to a copy that is thrown away.
    """

    target: str
    key: AbsolutePath
    unix: Annotated[str, AfterValidator(socket_path)] | None = None
    listen: Annotated[Listen, in_text(parse_listen)] | None = None
    certificate: AbsolutePath | None = None
    certificate_key: AbsolutePath | None = None
    client_ca: AbsolutePath | None = None
    writable: bool = False

    @model_validator(mode="after")
    def _is_one_place(self) -> Self:
        if (self.unix is None) == (self.listen is None):
            raise ValueError("is at one place: give it either unix or listen")
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("needs both certificate and certificate_key, or none of them")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("has a client_ca but no certificate to begin TLS with")
        return self


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
    exports: dict[str, Export] = Field(default={})

    @property
    def lanes(self) -> tuple[Volume, ...]:
        """Every volume once for each of its targets."""
        return tuple(lane for volume in self.volumes.values() for lane in volume.lanes)
