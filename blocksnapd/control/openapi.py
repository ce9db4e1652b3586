"""The control API as an OpenAPI 3.1 document, made of the routes and message types. Pure."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic.json_schema import models_json_schema

from blocksnapd import __version__
from blocksnapd.control.messages import (
    API_HEADER,
    JSON_TYPE,
    LINES_TYPE,
    PROBLEM_TYPE,
    SCHEMA,
    Problem,
)
from blocksnapd.control.requests import ALLOWED, NEEDED, RunBody
from blocksnapd.control.route_table import ROUTES

if TYPE_CHECKING:
    from blocksnapd.control.route_table import Query, Route

Json = dict[str, Any]
_REF = "#/components/schemas/{}"
_ABOUT = (
    "HTTP/1.1 over the Unix socket: curl --unix-socket /run/blocksnap/control.sock "
    "http://localhost/v1/status. Who may ask is up to the groups of [control]; the kernel says "
    "who asks. Fields only get added and enumerations may grow: ignore what you do not know."
)


@cache
def document() -> Json:
    """Return the document; the same one each time, not to be changed."""
    replies = [Problem, *dict.fromkeys(r.reply for r in ROUTES if not _is_plain(r.reply))]
    shown, schemas = msgspec.json.schema_components(replies, ref_template=_REF.format("{name}"))
    bodies = list(dict.fromkeys(r.body for r in ROUTES if r.body is not None))
    _, asked = models_json_schema(
        [(body, "validation") for body in bodies], ref_template=_REF.format("{model}")
    )
    by_type = dict(zip(replies, shown, strict=True))
    paths: dict[str, Json] = {}
    for route in ROUTES:
        reply = by_type.get(route.reply, {"type": "object"})
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, reply)
    return {
        "openapi": "3.1.0",
        "info": {"title": "blocksnapd", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {"schemas": {**schemas, **_runs_by_kind(asked["$defs"])}},
    }


def _is_plain(reply: Any) -> bool:
    return not hasattr(reply, "__required_keys__")


def _operation(route: Route, reply: Json) -> Json:
    names = re.findall(r"\{(\w+)\}", route.path)
    found: Json = {
        "operationId": route.name,
        "summary": route.text,
        "parameters": [*map(_in_path, names), *map(_in_query, route.query)],
        "responses": _responses(route, reply),
    }
    if route.body is not None:
        schema = {"$ref": _REF.format(route.body.__name__)}
        found["requestBody"] = {"required": True, "content": {JSON_TYPE: {"schema": schema}}}
    return found


def _responses(route: Route, reply: Json) -> Json:
    kind = LINES_TYPE if route.is_stream else JSON_TYPE
    good: Json = {
        "description": "Lines, each of this schema; empty ones only show that it lives."
        if route.is_stream else "Done.",
        "headers": {API_HEADER: {"schema": {"type": "string", "const": str(SCHEMA)}}},
        "content": {kind: {"schema": {"type": "string"} if route.is_stream else reply}},
    }  # fmt: skip
    if route.is_stream:
        good["content"][kind]["x-line"] = reply
    wrong: Json = {
        "description": "Why not, and what to do.",
        "content": {PROBLEM_TYPE: {"schema": {"$ref": _REF.format("Problem")}}},
    }
    found = {str(route.status): good, "default": wrong}
    if route.name == "start_run":
        found["200"] = good
    if route.name == "ready":
        found["503"] = good
    return found


def _in_path(name: str) -> Json:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(query: Query) -> Json:
    return {"name": query.name, "in": "query", "description": query.text, "schema": query.schema}


def _not_null(schema: Json) -> Json:
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    return kinds[0] if len(kinds) == 1 else schema


def _runs_by_kind(schemas: Json) -> Json:
    """Say of a run, kind by kind, which fields it needs and may have."""
    run = schemas[RunBody.__name__]
    fields = run["properties"]
    kinds = [
        {
            "type": "object",
            "title": kind,
            "properties": {
                "kind": {"const": kind},
                **{name: fields[name] for name in fields if name in ALLOWED[kind]},
                **{name: _not_null(fields[name]) for name in NEEDED[kind]},
            },
            "required": ["kind", *NEEDED[kind]],
            "additionalProperties": False,
        }
        for kind in ALLOWED
    ]
    return {**schemas, RunBody.__name__: {"oneOf": kinds, "title": RunBody.__name__}}
