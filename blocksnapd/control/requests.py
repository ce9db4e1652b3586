"""What came over the control socket → checked values. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blocksnapd.control.drill_messages import WHOLE, read_drill
from blocksnapd.control.map_messages import CYCLES_MAX, REGIONS_MAX, MapQuery
from blocksnapd.control.messages import RunKind, parse_time
from blocksnapd.errors import FormatError, UsageError
from blocksnapd.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocksnapd.control.drill_messages import Drill
    from blocksnapd.control.messages import FilesQuery, HoldRequest, RunRequest
    from blocksnapd.control.pause_messages import InPlaceRequest, PauseRequest, ResumeRequest

BODY_SIZE_MAX = 64 * 1024
WAIT_MAX_S = 300.0
TAGS_MAX = 16
RULES_MAX = 32
REASON_LENGTH_MAX = 200

_Name = Annotated[str, Field(min_length=1, max_length=4096)]
_Path = Annotated[str, Field(pattern="^/", max_length=4096)]
_Tag = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Policy(_Body):
    keep: Annotated[list[_Name], Field(min_length=1, max_length=RULES_MAX)]
    keep_tags: Annotated[list[_Name], Field(max_length=RULES_MAX)] | None = None
    min_points: Annotated[int, Field(ge=1), WHOLE] | None = None
    max_delete_pct: Annotated[float, Field(ge=0, le=100)] | None = None
    undelete: Annotated[float, Field(gt=0, le=1e9)] | None = None


class HoldBody(_Body):
    """POST /v1/points/{selector}/hold."""

    until: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    reason: Annotated[str, Field(max_length=REASON_LENGTH_MAX)] | None = None


class PauseBody(_Body):
    """POST /v1/volumes/{volume}/pause."""

    seconds: Annotated[float, Field(gt=0, le=1e9)] | None = None
    reason: Annotated[str, Field(max_length=REASON_LENGTH_MAX)] | None = None


class ResumeBody(_Body):
    """POST /v1/volumes/{volume}/resume."""

    force: bool | None = None


class InPlaceBody(_Body):
    """POST /v1/volumes/{volume}/in-place."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [key], "properties": {key: {"type": "string"}}}
                for key in ("id", "point")
            ]
        }
    )

    id: _Name | None = None
    point: _Name | None = None
    safety: _Name | None = None
    writing: bool | None = None
    done: bool | None = None


class RunBody(_Body):
    """POST /v1/runs."""

    kind: RunKind
    volume: _Name | None = None
    target: _Name | None = None
    point: _Name | None = None
    to: _Path | None = None
    tags: Annotated[list[_Tag], Field(max_length=TAGS_MAX)] | None = None
    full: bool | None = None
    overwrite: bool | None = None
    dry_run: bool | None = None
    policy: _Policy | None = None
    share: Annotated[float, Field(ge=0, le=1)] | None = None
    unix: _Path | None = None
    listen: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    writable: bool | None = None
    certificate: _Path | None = None
    certificate_key: _Path | None = None
    client_ca: _Path | None = None
    open: bool | None = None
    check: Annotated[list[_Name], Field(max_length=64)] | None = None
    scratch: _Path | None = None
    restores: bool | None = None
    daemon: _Path | None = None
    lease: _Name | None = None
    merge: bool | None = None
    path: Annotated[str, Field(min_length=1, max_length=16384, pattern="^/")] | None = None
    part: Annotated[int, Field(ge=1, le=9999), WHOLE] | None = None
    recursive: bool | None = None
    new: bool | None = None
    allow_damaged: bool | None = None
    damaged_list: _Path | None = None


NEEDED = {
    "cycle": ("volume",), "restore": ("point", "to"), "in-place": ("point", "daemon"),
    "view": ("point", "daemon"),
    "verify": (), "prune": ("volume",), "export": (),
    "copy": ("point", "path", "to"), "drill": (),
}  # fmt: skip
ALLOWED = {
    "cycle": {"volume", "target", "tags", "full", "lease"},
    "in-place": {"point", "daemon", "target", "merge"},
    "view": {"point", "daemon", "writable"},
    "drill": {"point", "volume", "check", "scratch", "restores"},
    "copy": {"point", "path", "part", "to", "recursive", "overwrite"},
    "restore": {"point", "to", "overwrite", "new", "dry_run", "allow_damaged", "damaged_list"},
    "verify": {"volume", "point", "share"},
    "prune": {"volume", "target", "dry_run", "policy"},
    "export": {
        "point",
        "unix",
        "listen",
        "writable",
        "certificate",
        "certificate_key",
        "client_ca",
        "open",
        "part",
    },
}
_Model = TypeVar("_Model", bound=_Body)


def parse_run_request(body: bytes) -> RunRequest:
    """Return the body of POST /v1/runs.

    Raises:
        UsageError: not JSON, or not such a request.
    """
    found = _checked(RunBody, body, "Nothing was started.")
    request = found.model_dump(exclude_none=True)
    for key in NEEDED[found.kind]:
        if key not in request:
            raise UsageError(f"a run of kind {found.kind!r} needs {key!r}")
    for key in request.keys() - ALLOWED[found.kind] - {"kind"}:
        raise UsageError(f"{key!r} means nothing for a run of kind {found.kind!r}")
    return cast("RunRequest", request)


def parse_hold(body: bytes) -> HoldRequest:
    """Return the body of POST /v1/points/{selector}/hold.

    Raises:
        UsageError: not JSON, or not such a request.
    """
    effect = "Nothing was changed."
    found = _checked(HoldBody, body or b"{}", effect)
    if found.until is not None:
        try:
            parse_time(found.until)
        except ValueError as error:
            raise UsageError(f"until: {error}", effect=effect) from error
    return cast("HoldRequest", found.model_dump(exclude_none=True))


def parse_pause(body: bytes) -> PauseRequest:
    """Return the body of POST /v1/volumes/{volume}/pause; raises as ``parse_hold``."""
    found = _checked(PauseBody, body or b"{}", "Nothing was changed.")
    return cast("PauseRequest", found.model_dump(exclude_none=True))


def parse_resume(body: bytes) -> ResumeRequest:
    """Return the body of POST /v1/volumes/{volume}/resume; raises as ``parse_hold``."""
    found = _checked(ResumeBody, body or b"{}", "Nothing was changed.")
    return cast("ResumeRequest", found.model_dump(exclude_none=True))


def parse_in_place(body: bytes) -> InPlaceRequest:
    """Return the body of POST /v1/volumes/{volume}/in-place; raises as ``parse_hold``."""
    found = _checked(InPlaceBody, body, "Nothing was changed.")
    if found.id is None and found.point is None:
        raise UsageError("what begins needs 'point'", effect="Nothing was changed.")
    return cast("InPlaceRequest", found.model_dump(exclude_none=True))


def _checked(model: type[_Model], body: bytes, effect: str) -> _Model:
    try:
        return model.model_validate(json.loads(body))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = ".".join(map(str, detail["loc"])) or "the request"
        raise UsageError(f"{where}: {detail['msg']}", effect=effect) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is not JSON: {error}", effect=effect) from error


def parse_files(query: Mapping[str, str]) -> FilesQuery:
    """Return what a list of files is asked for.

    Raises:
        UsageError: it cannot be.
    """
    found: FilesQuery = {
        "recursive": parse_flag(query, "recursive"), "long": parse_flag(query, "long")
    }  # fmt: skip
    path, part = query.get("path", ""), query.get("part", "")
    if path and not path.startswith("/"):
        raise UsageError(f"path: {path[:40]!r} does not begin with a slash")
    if part and not (part.isdecimal() and part.isascii() and len(part) < 5):
        raise UsageError(f"part: {part[:40]!r} is no number of a volume")
    if path:
        found["path"] = path
    if part:
        found["part"] = int(part)
    return found


def parse_drill(body: bytes) -> Drill:
    """Return the body of POST /v1/drills.

    Raises:
        UsageError: it is no evidence of a drill.
    """
    try:
        return read_drill(body)
    except FormatError as error:
        raise UsageError(error.message, effect="Nothing was kept.") from error


def parse_volume(query: Mapping[str, str]) -> str | None:
    """Return the volume that is asked about; None: all of them.

    Raises:
        UsageError: its name is empty.
    """
    if query.get("volume") == "":
        raise UsageError("volume: is empty", hint="Name a volume, or leave it out.")
    return query.get("volume")


def parse_wait(query: Mapping[str, str]) -> float | None:
    """Return the seconds of ``?wait=30s``, at most ``WAIT_MAX_S``; None: do not wait.

    Raises:
        UsageError: not a duration.
    """
    if "wait" not in query:
        return None
    try:
        return min(WAIT_MAX_S, parse_duration(query["wait"]))
    except ValueError as error:
        raise UsageError(f"wait: {error}") from error


def parse_since(query: Mapping[str, str]) -> int:
    """Return ``?since=SEQ``: events after that number; negative: so many of the last ones.

    Raises:
        UsageError: not a whole number.
    """
    text = query.get("since", "0")
    if len(text) > 20 or not text.removeprefix("-").isdecimal():
        raise UsageError(f"since: {text[:40]!r} is not a whole number")
    return int(text)


def parse_instant(query: Mapping[str, str]) -> float:
    """Return the instant of ``?since=2026-11-22T14:05:00Z``, 0 when it is left out.

    Raises:
        UsageError: it is none.
    """
    if "since" not in query:
        return 0.0
    try:
        return parse_time(query["since"]).timestamp()
    except (ValueError, OverflowError) as error:
        raise UsageError(f"since: {error}") from error


def parse_map(query: Mapping[str, str]) -> MapQuery:
    """Return what a map is asked for: ``?regions=64&cycles=200&since=``.

    Raises:
        UsageError: not whole numbers from 1, too many, or no instant.
    """
    return MapQuery(
        _parse_number(query, "regions", MapQuery().regions, REGIONS_MAX),
        _parse_number(query, "cycles", MapQuery().cycles, CYCLES_MAX),
        parse_instant(query),
    )


def _parse_number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not (text.isdecimal() and text.isascii() and len(text) < 9 and 1 <= int(text) <= most):
        raise UsageError(f"{name}: {text[:40]!r} is not a whole number from 1 to {most}")
    return int(text)


def parse_flag(query: Mapping[str, str], name: str) -> bool:
    """Return a flag such as ``?follow=1``.

    Raises:
        UsageError: neither 0 nor 1.
    """
    text = query.get(name, "0")
    if text not in {"0", "1"}:
        raise UsageError(f"{name}: {text[:40]!r} is neither 0 nor 1")
    return text == "1"
