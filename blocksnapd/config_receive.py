"""``receive.toml`` → what a receiver is told: where it listens, whose repositories it keeps. Edge.

schema = 1
[receive]        listen, root, credentials, spool, reserve, clock_offset, metrics
[pki]            ca, cert, key
[defaults]       of hosts: quota, floor, …
[host.NAME]      what differs for one host
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from blocksnapd.config_file import Document
from blocksnapd.config_model import HOST_NAME
from blocksnapd.config_values import (
    AbsolutePath,
    Duration,
    Frozen,
    HostsRoot,
    KeepRule,
    Listen,
    Size,
    parse_listen,
)
from blocksnapd.units import GIB

_SECTIONS = ("schema", "receive", "pki", "defaults", "host")
_Listens = tuple[Annotated[Listen, BeforeValidator(parse_listen)], ...]


class Receive(Frozen):
    """``[receive]``.

    ``root`` holds one directory per host, or is a bucket's prefix with one folder per host. Then
    ``credentials`` is a file like ``~/.aws/credentials`` (None: the environment is asked), and
    ``spool`` the directory where an object is kept until it is whole. ``reserve`` is what stays
    free on the disk of a directory, for maintenance. ``clock_offset_s``: a host whose clock differs
    by more makes no points. ``maintain_every_s`` lies between rounds of maintenance.
    """

    listen: _Listens = Field(default=(Listen("0.0.0.0", 7420),), strict=False)  # noqa: S104
    root: HostsRoot = "/var/lib/blocksnap-receive"
    credentials: AbsolutePath | None = None
    spool: AbsolutePath = "/var/lib/blocksnap-receive/spool"
    reserve: Size = GIB
    clock_offset_s: Duration = Field(default=900.0, alias="clock_offset")
    maintain_every_s: Annotated[Duration, Field(ge=1)] = Field(default=1800.0, alias="maintain")
    metrics: _Listens = Field(default=(), strict=False)


class Pki(Frozen):
    """``[pki]``: the directory of the receiver's own authority, which pairs hosts.

    Or, for who has an authority already, PEM files: ``ca``, ``cert`` and ``key``, read again on
    SIGHUP.
    """

    directory: AbsolutePath = "/var/lib/blocksnap-pki"
    ca: AbsolutePath | None = None
    cert: AbsolutePath | None = None
    key: AbsolutePath | None = None

    @model_validator(mode="after")
    def _whole(self) -> Pki:
        if len({self.ca is None, self.cert is None, self.key is None}) > 1:
            raise ValueError("names some of ca, cert and key; name all of them, or none")
        return self


class Host(Frozen):
    """``[defaults]`` and ``[host.NAME]``.

    ``quota`` is in bytes of objects, None: the disk is the limit. ``floor_s``: so long after a
    point arrived here nothing forgets it. ``keep``: what rounds of maintenance keep, for which
    they need ``maintenance_key``; empty: everything. ``rpo_s``: whose newest point is older is
    told of as late; None: nobody judges. ``is_blocked``: nobody speaks for this host
    any more. ``may_maintain``: maintainers' certificates count, which may delete what is older
    than the floor.
    """

    quota: Size | None = None
    floor_s: Duration | None = Field(default=None, alias="floor")
    maintenance_key: AbsolutePath | None = None
    keep: Annotated[tuple[KeepRule, ...], Field(strict=False)] = ()
    rpo_s: Duration | None = Field(default=None, alias="rpo")
    is_blocked: bool = Field(default=False, alias="blocked")
    may_maintain: bool = Field(default=False, alias="remote_maintenance")


class ReceiveConfig(Frozen):
    """The whole of it; hosts that ``hosts`` does not name are as ``defaults`` says."""

    path: str
    receive: Receive = Receive()
    pki: Pki = Pki()
    defaults: Host = Host()
    hosts: dict[str, Host] = Field(default_factory=dict)

    def host(self, name: str) -> Host:
        """Return what is said of one host."""
        return self.hosts.get(name, self.defaults)


def load_receive(path: str) -> ReceiveConfig:
    """Read ``path``.

    Raises:
        ConfigError: it cannot be read or something in it is wrong; all of it is named.
    """
    document = Document()
    document.read(path)
    for section in document.tables.keys() - set(_SECTIONS):
        document.unknown((section,), _SECTIONS)
    if document.tables.get("schema") != 1:
        document.complain(("schema",), "must be 1; write: schema = 1")
    defaults = document.table("defaults")
    config = ReceiveConfig(
        path=path,
        receive=document.validate(Receive, document.table("receive"), ("receive",)) or Receive(),
        pki=document.validate(Pki, document.table("pki"), ("pki",)) or Pki(),
        defaults=document.validate(Host, defaults, ("defaults",)) or Host(),
        hosts=_hosts(document, dict(defaults)),
    )
    document.raise_problems()
    return config


def _hosts(document: Document, defaults: dict[str, object]) -> dict[str, Host]:
    found = {}
    for name, raw in document.table("host").items():
        own = document.validate(Host, raw, ("host", name))
        if not HOST_NAME.fullmatch(name):
            document.complain(("host", name), "is not a name: use letters, digits, . _ and -")
        elif own is not None and isinstance(raw, dict):
            # What is wrong with the defaults was told; a host's own table is right by itself.
            merged = document.validate(Host, defaults | raw, ("host", name))
            found[name] = merged or own
    return found
