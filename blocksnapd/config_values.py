"""The values that a configuration is written with, as types: text → what it means. Pure.

Each raises ValueError with a sentence that goes on "the key …".
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from blocksnapd import units
from blocksnapd.keep_rules import Rule, parse_rule
from blocksnapd.pace import Window, parse_window
from blocksnapd.packing import FRAME_SIZES, LEVELS, PACKING_DEFAULT, PACKINGS, Packing
from blocksnapd.receiver_url import is_receiver, is_ssh, parse_receiver, parse_ssh
from blocksnapd.s3_url import is_s3, parse_s3_url
from blocksnapd.units import format_size, parse_duration, parse_share, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

SOCKET_PATH_MAX = 107  # bytes of sockaddr_un.sun_path without the end mark
LVM_NAME = re.compile(r"(?!-)(?!\.{1,2}$)[A-Za-z0-9+_.-]{1,127}")


def in_text(convert: Callable[[Any], object], written: Any = str) -> BeforeValidator:
    """Let ``convert`` make the value; the schema of the file says that it is ``written`` so."""
    return BeforeValidator(convert, json_schema_input_type=written)


def from_text(parse: Callable[[str], Any], example: str) -> BeforeValidator:
    """Let ``parse`` make the value of a text with a unit; ``example`` shows one."""

    def convert(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError(f"must be a text with a unit, like {example}")
        return parse(value)

    return in_text(convert)


def keep_rule(value: object) -> Rule:
    """Return the rule of retention that a text is."""
    if not isinstance(value, str):
        raise ValueError("must be a text like 'all for 2h' or '1/h for 2d'")
    return parse_rule(value)


def window(value: object) -> Window:
    """Return the window of the week that a text is."""
    if not isinstance(value, str):
        raise ValueError("must be a text like 'Mon..Fri 08:00-18:00'")
    return parse_window(value)


def limits(value: object) -> object:
    """Return limits of bandwidth as a list; a text alone is one that always holds."""
    return [{"limit": value}] if isinstance(value, str) else value


def packing(value: object) -> Packing:
    """Return how to compress: one of the names, or a table of level and frame."""
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


def share_per_day(value: object) -> float:
    """Return the fraction that a text like ``5%/day`` is."""
    share = re.sub(r" ?(?:/ ?|per )(?:d|day)$", "", str(value))
    if share == value:
        raise ValueError(f"{value!r} is not a share of each day; write it like '5%/day'")
    return parse_share(share)


def power_of_two(low: int, high: int) -> AfterValidator:
    """Let only powers of two pass, from ``low`` to ``high`` bytes."""

    def check(value: int) -> int:
        if not low <= value <= high or value & (value - 1):
            raise ValueError(
                f"must be a power of two from {format_size(low)} to {format_size(high)}"
            )
        return value

    return AfterValidator(check)


def absolute(value: str) -> str:
    """Let only absolute paths pass."""
    if not posixpath.isabs(value):
        raise ValueError(f"must be an absolute path, not {value!r}")
    return value


def program(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Let only what can be started pass: the first word is an absolute path."""
    if any("\0" in word for word in argv):
        raise ValueError("has a NUL character, which no argument can have")
    absolute(argv[0])
    return argv


def socket_path(value: str) -> str:
    """Let only absolute paths pass that a socket can have."""
    if len(absolute(value).encode()) > SOCKET_PATH_MAX:
        raise ValueError(f"is longer than a socket's path may be ({SOCKET_PATH_MAX} bytes)")
    return value


def place_url(value: str) -> str:
    """Let only URLs pass of which ``open_store`` knows the kind; nothing is asked of the place."""
    if is_s3(value):
        parse_s3_url(value)
        return value
    if is_receiver(value):
        parse_ssh(value) if is_ssh(value) else parse_receiver(value)
        return value
    parts = urlsplit(value)
    if parts.scheme not in {"", "file"} or parts.netloc or not parts.path.startswith("/"):
        raise ValueError(
            f"{value!r} is neither a local directory, written like '/srv/blocksnap' or "
            "'file:///srv/blocksnap', nor a receiver, 'https://backup1:7420' or "
            "'ssh://blocksnap@backup1', nor a place in object storage, 's3://bucket/prefix'"
        )
    return value


def hosts_root(value: str) -> str:
    """Let only absolute paths pass, and places in object storage."""
    if is_s3(value):
        parse_s3_url(value)
        return value
    return absolute(value)


def vg_name(value: str) -> str:
    """Let only names of volume groups pass."""
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


Amount = Annotated[units.Amount, from_text(units.parse_amount, "'10%' or '10 GiB'")]
Duration = Annotated[float, from_text(parse_duration, "'5m' or '10s'"), Field(gt=0)]
Size = Annotated[int, from_text(parse_size, "'64 KiB' or '10 GiB'"), Field(ge=0)]
KeepRule = Annotated[Rule, in_text(keep_rule)]
AbsolutePath = Annotated[str, AfterValidator(absolute)]
HostsRoot = Annotated[str, AfterValidator(hosts_root)]


class Frozen(BaseModel):
    """No unknown keys, no guessing of types, no changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
