"""The evidence of a drill as it goes over the control socket and is kept: one JSON object. Pure.

Fields only get added. ``result`` is ``success``, ``warning`` (restored, but something could not be
proven) or ``failed``; so is that of each step, which may also be ``skipped``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypedDict, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from blocksnapd.control.messages import parse_time
from blocksnapd.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

FOUND_MAX = 40  # lines of what a program found
LINE_LENGTH_MAX = 300

Result = Literal["success", "warning", "failed", "skipped"]
_Text = Annotated[str, Field(max_length=4096)]


class DrillStep(TypedDict, total=False):
    """One part: how it was done, how long it took, what it found."""

    name: str
    result: Result
    seconds: float
    method: str
    found: list[str]


class Drill(TypedDict, total=False):
    """One drill."""

    schema: int
    id: str
    volume: str
    target: str
    point: str
    point_time: str
    host: str
    version: str
    started: str
    ended: str
    result: Result
    size: int
    content_bytes: int
    steps: list[DrillStep]


def _as_whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON knows one kind of number: 5.0 is as whole as 5.
WHOLE: Final = BeforeValidator(_as_whole)
_Moment = Annotated[_Text, Field(json_schema_extra={"format": "date-time"})]


class _Step(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    name: Annotated[str, Field(pattern="^[a-z-]{1,32}$")]
    result: Result
    seconds: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    method: _Text
    found: Annotated[
        list[Annotated[str, Field(max_length=LINE_LENGTH_MAX)]], Field(max_length=FOUND_MAX)
    ]  # fmt: skip


class DrillBody(BaseModel):
    """The evidence as it has to be."""

    model_config = ConfigDict(extra="ignore", strict=True)
    id: Annotated[str, Field(pattern="^d-[0-9a-f]{8}$")]
    volume: Annotated[_Text, Field(min_length=1)]
    target: _Text
    point: _Text
    point_time: _Moment
    host: _Text
    version: _Text
    started: _Moment
    ended: _Moment
    result: Literal["success", "warning", "failed"]
    size: Annotated[int, Field(ge=0, lt=1 << 63), WHOLE]
    content_bytes: Annotated[int, Field(ge=0, lt=1 << 63), WHOLE]
    steps: Annotated[list[_Step], Field(max_length=16)]


def read_drill(data: bytes | str) -> Drill:
    """Return the evidence in ``data``.

    Raises:
        FormatError: it is none.
    """
    try:
        found = DrillBody.model_validate(json.loads(data))
        for moment in (found.started, found.ended, found.point_time):
            parse_time(moment)
    except (ValidationError, ValueError, RecursionError) as error:
        first = str(error).splitlines()[0]
        if isinstance(error, ValidationError):
            detail = error.errors(include_url=False)[0]
            first = f"{'.'.join(map(str, detail['loc'])) or 'all of it'}: {detail['msg']}"
        raise FormatError(f"this is no evidence of a drill: {first}") from error
    return cast("Drill", {"schema": 1, **found.model_dump()})


def is_asked_for(drill: Mapping[str, object], volume: str | None, since: float) -> bool:
    """Say whether a drill is of ``volume``, or of any, and ended at ``since`` or later."""
    ended = parse_time(str(drill["ended"])).timestamp()
    return volume in (None, drill["volume"]) and ended >= since
