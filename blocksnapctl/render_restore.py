"""The plan of a restore and how far it is → text for people. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blocksnapctl import render
from blocksnapctl.times import show
from blocksnapd.control.messages import parse_time
from blocksnapd.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import tzinfo

    from blocksnapd.control.messages import Run

BAR_WIDTH: Final = 20
_BARRED: Final = frozenset({"restore", "in-place"})
_NOUNS: Final = {"file": "a file", "device": "a device"}


def progress(run: Run) -> str:
    """Return how far a run is, in one line; of a restore with a bar."""
    line, expected = render.progress(run), run.get("expected_bytes", 0)
    if run.get("kind") not in _BARRED or not expected:
        return line
    filled = min(BAR_WIDTH, BAR_WIDTH * run.get("done_bytes", 0) // expected)
    return f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}]  {line}"


def plan(found: Mapping[str, Any], zone: tzinfo | None) -> str:
    """Return the ``planned`` of a run: what would be done, and what is known of the point."""
    rows = [
        ("plan", _point(found, zone)),
        ("to", _target(found)),
        ("write", _content(found)),
        ("time", _time(found)),
        ("read back", _read_back(found, zone)),
        *(("mind", text) for text in _warnings(found)),
    ]
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name.ljust(width)}  {render.clean(text)}\n" for name, text in rows)


def _point(found: Mapping[str, Any], zone: tzinfo | None) -> str:
    when = show(parse_time(found["time"]).astimezone(zone))
    return f"{found['point']} of {found['volume']}, {when}, consistency: {found['consistency']}"


def _target(found: Mapping[str, Any]) -> str:
    if found["target"] == "volume":
        name = found["to"].removeprefix("/dev/")
        return f"NEW volume {name}, {format_size(found['volume_size'])}"
    what = _NOUNS.get(found["target"], found["target"])
    if found["replaces"]:
        return f"{found['to']}, {what} whose content is lost"
    return f"{found['to']}, {'a new file' if found['target'] == 'file' else what}"


def _content(found: Mapping[str, Any]) -> str:
    content, kept = found["content_bytes"], found["kept_bytes"]
    zeros = found["size"] - content
    text = f"{format_size(content)}, and {format_size(zeros)} of zeros"
    if found["target"] == "file":
        text += " that take no room"
    if kept:
        text += f"; {format_size(kept)} are there from an interrupted restore, if they prove right"
    return text


def _time(found: Mapping[str, Any]) -> str:
    if found["rate"] is None:
        return "unknown: there is too little to measure it by"
    took, rate = format_duration(found["seconds"]), format_size(found["rate"])
    return f"about {took} at {rate}/s, as the repository was read just now, and reading it back"


def _read_back(found: Mapping[str, Any], zone: tzinfo | None) -> str:
    read, every = found["read_back_packs"]
    if found["read_back"] is not None:
        return f"all of it, last {show(parse_time(found['read_back']).astimezone(zone))}"
    if not every:
        return "not known" if found["damaged_bytes"] is None else "there is nothing to read"
    return f"{read} of {every} packs ever were; prove it with: blocksnapctl verify {found['point']}"


def _warnings(found: Mapping[str, Any]) -> Iterator[str]:
    if found["suspect"]:
        yield "the volume held something else at that instant: the next point found it SUSPECT"
    if found["damaged_bytes"]:
        lost = format_size(found["damaged_bytes"])
        yield f"{lost} of it are known to be damaged; it is restored with --allow-damaged only"
    if found["damaged_bytes"] is None:
        yield "a part of its map cannot be read"
    yield from found["notes"]
