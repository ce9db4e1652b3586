"""Writes the JSON Schemas of what ``--json`` prints: ``packaging/schemas/VERB.json``.

    python packaging/schemas.py

They are made of the message types; a test compares what is there with what they say, and real
answers with both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from blocksnapd import config_view
from blocksnapd.control import documents, drill_messages, messages, pause_messages

DIRECTORY: Final = Path(__file__).with_name("schemas")
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DOCUMENTS: Final[dict[str, Any]] = {
    "status": messages.Status, "points": documents.Points, "point": messages.Point,
    "runs": documents.Runs, "run": messages.Run, "event": messages.Event,
    "volume": messages.VolumeStatus, "plan": messages.Plan, "started": messages.Started,
    "reloaded": documents.Reloaded, "config": documents.ConfigTold, "drill": drill_messages.Drill,
    "error": messages.Problem, "checkup": documents.Checkup, "host-volumes": documents.HostVolumes,
    "views-ended": pause_messages.EndedViews,
}  # fmt: skip


def schemas() -> dict[str, str]:
    """Return file name → text of every schema."""
    found = {f"{name}.json": _text(msgspec.json.schema(kind)) for name, kind in DOCUMENTS.items()}
    return {**found, "blocksnap.toml.json": _text(config_view.json_schema())}


def _text(schema: dict[str, Any]) -> str:
    return json.dumps({"$schema": DIALECT, **schema}, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in schemas().items():
        (DIRECTORY / name).write_text(text)
