"""The API's own description: whole, of the routes there are, and true of real answers."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from blocksnapd.control import documents
from blocksnapd.control.access import Access
from blocksnapd.control.openapi import document
from blocksnapd.control.route_table import ROUTES
from blocksnapd.control.routes import Routes
from tests.control.serving import serving
from tests.control.test_requests import VALID_RUNS
from tests.fakes.operations import MemoryOperations, plan


def schema_of(name: str) -> dict[str, Any]:
    """Return a schema of the document that stands for itself."""
    components = document()["components"]
    return {"$ref": f"#/components/schemas/{name}", "components": components}


def test_every_route_of_the_server_is_told_and_no_other() -> None:
    app = Routes(MemoryOperations(), Access(own_uid=0)).application()
    served = {(r.method, r.resource.canonical) for r in app.router.routes() if r.resource}
    told = {
        (method.upper(), path)
        for path, methods in document()["paths"].items()
        for method in methods
    }
    assert {pair for pair in served if pair[0] != "HEAD"} == told
    assert len(told) == len(ROUTES) > 25


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(document())
    names = set(document()["components"]["schemas"])
    for piece in text.split('"#/components/schemas/')[1:]:
        assert piece.split('"')[0] in names
    for schema in document()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert documents.Reloaded.__name__ in names


def test_every_operation_has_a_name_of_its_own_and_says_how_it_fails() -> None:
    found = [op for methods in document()["paths"].values() for op in methods.values()]
    assert len({op["operationId"] for op in found}) == len(found)
    for operation in found:
        assert operation["summary"].endswith(".")
        assert "application/problem+json" in operation["responses"]["default"]["content"]


@pytest.mark.parametrize("request_body", VALID_RUNS, ids=lambda body: body["kind"])
def test_a_run_that_the_server_takes_is_of_the_schema(request_body: dict[str, Any]) -> None:
    jsonschema.validate(request_body, schema_of("RunBody"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**request_body, "nothing": 1}, schema_of("RunBody"))


async def test_real_answers_are_of_their_schemas() -> None:
    """Each GET of the table, asked of a server that has something to tell."""
    async with serving() as served:
        served.operations.plans["pl-00000001"] = plan()
        _, started = await served.post("/v1/runs", {"kind": "cycle", "volume": "vg0/home"})
        values = {"{volume}": "vg0/home", "{selector}": "p0002", "{run}": started["id"],
                  "{plan}": "pl-00000001"}  # fmt: skip
        asked = 0
        for route in ROUTES:
            if route.method != "GET" or route.is_stream or route.name == "openapi":
                continue
            path = route.path
            for name, value in values.items():
                path = path.replace(name, value)
            status, body = await served.get(path)
            assert status == 200, (path, body)
            jsonschema.validate(body, schema_of(route.reply.__name__))
            asked += 1
        assert asked > 10
        _, told = await served.get("/v1/openapi.json")
        assert told == document()
        _, problem = await served.get("/v1/runs/r404")
        jsonschema.validate(problem, schema_of("Problem"))
