"""The paths of the control API as data: what is asked, with what, what comes back. Pure.

``routes.py`` answers by this table and ``openapi.py`` tells it; a path is written nowhere else.
A volume's name and a selector go into a path percent-encoded: ``vg0%2Fhome``,
``%2Fsrv%2Fdisk.img``, ``vg0%2Fhome%402026-11-22T14:05``. A bare slash within ``vg0/home`` is
understood too, but for a last part that is one of the verbs here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from blocksnapd.control import documents as doc
from blocksnapd.control import (
    drill_messages,
    map_messages,
    messages,
    pause_messages,
    requests,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

_VERBS: Final = "files|hold|release|undelete|pause|resume|in-place|end-views"
_WITH_SLASHES: Final = re.compile(r"\{(volume|selector)\}")


@dataclass(frozen=True, slots=True)
class Query:
    """One parameter behind the question mark; ``schema`` is JSON Schema of its text."""

    name: str
    text: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Args:
        method: of HTTP.
        path: as OpenAPI writes it.
        name: the handler's, and the ``operationId``.
        text: what it does, in a sentence.
        reply: the type of the document, or of each line of a stream.
        query: what may stand behind the question mark.
        body: what has to be sent.
        status: of a good answer.
        is_stream: lines of JSON until the end.
    """

    method: str
    path: str
    name: str
    text: str
    reply: Any
    query: tuple[Query, ...] = ()
    body: type[BaseModel] | None = None
    status: int = 200
    is_stream: bool = False

    @property
    def pattern(self) -> str:
        """The path as aiohttp matches it; what ends in a verb is no name of its own."""
        name = rf"{{\1:(?!.*/(?:{_VERBS})$).+}}" if self.path.endswith("}") else r"{\1:.+}"
        return _WITH_SLASHES.sub(name, self.path)


def _flag(name: str, text: str) -> Query:
    return Query(name, text, {"type": "string", "enum": ["0", "1"]})


_VOLUME = Query("volume", "of this volume only", {"type": "string", "minLength": 1})
_ALL = _flag("all", "forgotten ones too")
_WAIT = Query("wait", "answer when it is done, or after so long: 30s",
              {"type": "string", "pattern": r"^[0-9]{1,6}(ms|s|m)$"})  # fmt: skip
_SINCE = Query("since", "events after this number; negative: so many of the last ones",
               {"type": "string", "pattern": "^-?[0-9]{1,18}$"})  # fmt: skip
_FOLLOW = _flag("follow", "go on for ever")
_INSTANT = Query("since", "ended at this instant or later",
                 {"type": "string", "format": "date-time"})  # fmt: skip
_FILES = (
    Query("path", "list this; without it the file systems there are",
          {"type": "string", "pattern": "^/"}),
    Query("part", "the number of a file system",
          {"type": "string", "pattern": "^[1-9][0-9]{0,3}$"}),
    _flag("recursive", "directories in it, too"), _flag("long", "modes, owners, sizes, times"),
)  # fmt: skip
_MAP = (
    Query("regions", "cut the volume into so many at most, 1 to 1024",
          {"type": "string", "pattern": "^[1-9][0-9]{0,2}$"}),
    Query("cycles", "so many at most, 1 to 1000",
          {"type": "string", "pattern": "^[1-9][0-9]{0,2}$"}),
    Query("since", "points of this instant or later", {"type": "string", "format": "date-time"}),
)  # fmt: skip
_POINT, _RUN, _PLAN, _VOLUME_DOC = (
    messages.Point, messages.Run, messages.Plan, messages.VolumeStatus
)  # fmt: skip

ROUTES: Final = (
    Route("GET", "/v1/status", "status", "Everything about every volume, from memory.",
          messages.Status),
    Route("GET", "/v1/volumes", "volumes", "Every volume's part of it.", doc.Volumes),
    Route("GET", "/v1/volumes/{volume}", "volume", "One volume.", _VOLUME_DOC),
    Route("GET", "/v1/points", "points", "Points, oldest first.", doc.Points, (_VOLUME, _ALL)),
    Route("GET", "/v1/points/{selector}/files", "files",
          "Lines: the file systems in a point, or what is at a path.", doc.FilesLine, _FILES,
          is_stream=True),
    Route("GET", "/v1/points/{selector}", "point", "The one point that a selector names.", _POINT),
    Route("GET", "/v1/runs", "runs", "Runs under way and past, newest first.", doc.Runs,
          (_VOLUME,)),
    Route("GET", "/v1/runs/{run}", "run", "One run, at once or when it is done.", _RUN, (_WAIT,)),
    Route("GET", "/v1/runs/{run}/follow", "follow_run", "Lines: the run at each change.", _RUN,
          is_stream=True),
    Route("GET", "/v1/events", "events", "Lines: what happened.", messages.Event,
          (_SINCE, _FOLLOW), is_stream=True),
    Route("GET", "/v1/health/live", "live", "It answers.", doc.Live),
    Route("GET", "/v1/health/ready", "ready", "Recovery is behind it; 503: not yet.", doc.Ready),
    Route("GET", "/v1/config", "config", "Every setting that holds.", doc.ConfigTold),
    Route("GET", "/v1/openapi.json", "openapi", "This document.", dict[str, Any]),
    Route("GET", "/v1/maps/{volume}", "map", "Where and when a volume changed.",
          map_messages.ChangeMap, _MAP),
    Route("GET", "/v1/drills", "drills", "Evidence of drills.", doc.Drills, (_VOLUME, _INSTANT)),
    Route("POST", "/v1/drills", "keep_drill", "Keep the evidence of a drill made elsewhere.",
          drill_messages.Drill, body=drill_messages.DrillBody, status=201),
    Route("GET", "/v1/plans/{plan}", "plan", "What a run of kind prune would do.", _PLAN),
    Route("POST", "/v1/plans/{plan}/apply", "apply_plan", "Do exactly that.", _PLAN),
    Route("POST", "/v1/points/{selector}/hold", "hold", "Let nothing drop a point.", _POINT,
          body=requests.HoldBody),
    Route("POST", "/v1/points/{selector}/release", "release", "Take that back.", _POINT),
    Route("POST", "/v1/points/{selector}/undelete", "undelete", "Bring a forgotten point back.",
          _POINT),
    Route("POST", "/v1/volumes/{volume}/pause", "pause", "Start no run of it by itself.",
          _VOLUME_DOC, body=requests.PauseBody),
    Route("POST", "/v1/volumes/{volume}/resume", "resume", "Let the schedule go on.", _VOLUME_DOC,
          body=requests.ResumeBody),
    Route("POST", "/v1/volumes/{volume}/in-place", "in_place",
          "A worker that writes to the volume begins, goes on, ends.", pause_messages.Paused,
          body=requests.InPlaceBody),
    Route("POST", "/v1/volumes/{volume}/end-views", "end_views", "End what shows it as it was.",
          pause_messages.EndedViews),
    Route("POST", "/v1/runs", "start_run", "Start a run (201), or join it (200).",
          messages.Started, body=requests.RunBody, status=201),
    Route("POST", "/v1/runs/{run}/cancel", "cancel_run", "Ask a run to stop.", _RUN),
    Route("POST", "/v1/reload", "reload", "Take up the changed configuration.", doc.Reloaded),
)  # fmt: skip
