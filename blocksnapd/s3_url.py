"""``s3://bucket/prefix?region=…`` → where in object storage a repository is. Pure.

    s3://BUCKET[/PREFIX][?OPTION=VALUE&…]

    endpoint   https://host[:port] or http://…; Amazon's own when left out
    region     us-east-1 when left out
    style      path or virtual: where the bucket's name goes; path with an endpoint, else virtual
    lock       30d: maintenance keeps every living object locked at least so long (Object Lock)

One text says it all, in the configuration and on the command line, and none of it is secret.
Credentials never stand in it: they come from the environment or from a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from blocksnapd.units import parse_duration

SCHEME: Final = "s3"
REGION_DEFAULT: Final = "us-east-1"
LOCK_S_MIN: Final = 86_400.0
LOCK_S_MAX: Final = 100 * 366 * 86_400.0
_OPTIONS: Final = ("endpoint", "region", "style", "lock")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@=-]{0,127}")
_REGION = re.compile(r"[A-Za-z0-9-]{1,63}")
_SYNTAX: Final = "write it like 's3://bucket/prefix?region=eu-central-1'"


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where the objects are; ``prefix`` is "" or ends with a slash, ``endpoint`` "" is Amazon's."""

    bucket: str
    prefix: str
    endpoint: str
    region: str
    is_virtual: bool
    lock_s: float | None = None


def is_s3(url: str) -> bool:
    """Return whether ``url`` is written like a place in object storage."""
    return url.startswith(f"{SCHEME}://")


def parse_s3_url(url: str) -> S3Place:
    """Return the place that ``url`` names.

    Raises:
        ValueError: it names none, or says what it may not: a user, a password, an unknown option.
    """
    parts = urlsplit(url)
    if parts.scheme != SCHEME or parts.fragment:
        raise ValueError(f"{url!r} is not a place in object storage; {_SYNTAX}")
    if "@" in parts.netloc:
        raise ValueError(
            "a URL holds no credentials: they come from the environment (AWS_ACCESS_KEY_ID …) or "
            "from the file that 'credentials' names"
        )
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError(f"{parts.netloc!r} is not the name of a bucket; {_SYNTAX}")
    said = _options(parts.query)
    endpoint = _endpoint(said.get("endpoint", ""))
    region = said.get("region", REGION_DEFAULT)
    if not _REGION.fullmatch(region):
        raise ValueError(f"{region!r} is not a region; {_SYNTAX}")
    style = said.get("style", "path" if endpoint else "virtual")
    if style not in ("path", "virtual"):
        raise ValueError(f"{style!r} is not a style; write path or virtual")
    return S3Place(
        bucket=parts.netloc, prefix=_prefix(parts.path), endpoint=endpoint, region=region,
        is_virtual=style == "virtual", lock_s=_lock(said.get("lock")),
    )  # fmt: skip


def below_s3_url(url: str, part: str) -> str:
    """Return the URL of what lies in the folder ``part`` of the place ``url``."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{part}").geturl()


def _options(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=16)
    names = [name for name, _ in pairs]
    for name in names:
        # The value is not repeated: somebody may have tried to write a secret here.
        if name not in _OPTIONS:
            raise ValueError(f"{name!r} is not an option of s3://; there are {', '.join(_OPTIONS)}")
        if names.count(name) > 1:
            raise ValueError(f"the option {name} is there twice")
    return dict(pairs)


def _prefix(path: str) -> str:
    parts = unquote(path).strip("/").split("/") if path.strip("/") else []
    for part in parts:
        if not _PREFIX_PART.fullmatch(part):
            raise ValueError(f"{part[:140]!r} cannot be a part of a prefix in a bucket")
    return "".join(f"{part}/" for part in parts)


def _endpoint(text: str) -> str:
    if not text:
        return ""
    parts = urlsplit(text)
    host = parts.hostname or ""
    port = parts.port  # raises ValueError by itself
    named = f"[{host}]" if ":" in host else host
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        raise ValueError(f"{text!r} is not an endpoint; write it like 'https://host:9000'")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{text!r} says more than an endpoint; the bucket goes after s3://")
    return f"{parts.scheme}://{named}" + (f":{port}" if port else "")


def _lock(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = parse_duration(text)
    if not LOCK_S_MIN <= seconds <= LOCK_S_MAX:
        raise ValueError(f"{text!r} is not a time to lock for: a day at least, 100 years at most")
    return seconds
