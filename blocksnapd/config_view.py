"""A configuration as text: what holds, what differs from another, what may be written. Pure.

Settings are told under dotted names, ``volume."vg0/home".every_s``, with what was left out filled
in, so that two configurations compare line by line. There is no secret in any: keys are files.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from blocksnapd.config_model import (
    Control,
    CowSpace,
    Daemon,
    Maintenance,
    MetricsEndpoint,
    Retention,
    Settings,
    Target,
)
from blocksnapd.keep_rules import Rule
from blocksnapd.toml_lines import format_path
from blocksnapd.units import Amount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.config_model import Config

Settled = dict[str, Any]  # dotted name → value as JSON has it
_NUMBERS = ("integer", "number")
_SECTIONS: dict[str, Any] = {
    "daemon": Daemon, "control": Control, "metrics": MetricsEndpoint, "maintenance": Maintenance,
    "defaults": Settings, "target": dict[str, Target], "cow": dict[str, CowSpace],
    "retention": dict[str, Retention], "volume": dict[str, Settings],
}  # fmt: skip


def settled(config: Config) -> Settled:
    """Return every setting that holds, by its dotted name."""
    return {format_path(path): value for path, value in _leaves((), config)}


def lines(found: Settled) -> list[str]:
    """Return ``name = value`` lines, sorted by section as they came."""
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in found.items()]


def differences(old: Settled, new: Settled) -> list[str]:
    """Return what a change from ``old`` to ``new`` would do: lines with ``-`` and ``+`` before."""
    said = []
    for name in dict.fromkeys([*old, *new]):
        for sign, side in (("-", old), ("+", new)):
            if name in side and old.get(name, ...) != new.get(name, ...):
                said.append(f"{sign} {name} = {json.dumps(side[name], ensure_ascii=False)}")
    return said


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors that complete and check TOML."""
    fields: dict[str, Any] = {name: (kind | None, None) for name, kind in _SECTIONS.items()}
    fields["schema_"] = (Annotated[Literal[1], Field(alias="schema")], ...)
    model: type[BaseModel] = create_model(
        "blocksnap.toml", __config__=ConfigDict(extra="forbid"), **fields
    )
    found = _without_foreign(model.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _item(value: object) -> object:
    if isinstance(value, Rule):
        return value.text
    if isinstance(value, Amount):
        return str(value)
    if isinstance(value, BaseModel):
        return {name: _item(getattr(value, name)) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return {name: _item(getattr(value, name)) for name in names}
    if isinstance(value, frozenset):
        return sorted(value)
    return [_item(inner) for inner in value] if isinstance(value, tuple) else value


def _without_foreign(value: Any) -> Any:
    """Drop the defaults that are not in the words of the file: seconds where it has a text."""
    if isinstance(value, list):
        return [_without_foreign(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    default = value.get("default")
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    is_foreign = isinstance(default, dict) or (is_number and value.get("type") not in _NUMBERS)
    return {
        key: _without_foreign(inner)
        for key, inner in value.items()
        if not (key == "default" and is_foreign)
    }


def _leaves(path: tuple[str, ...], value: object) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _leaves((*path, name), getattr(value, name))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves((*path, name), inner)
    elif isinstance(value, Amount):
        yield path, str(value)
    elif isinstance(value, tuple):
        yield path, [_item(item) for item in value]
    else:
        yield path, value
