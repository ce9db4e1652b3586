"""The schemas that are shipped: those of the message types, and true of what ``--json`` prints."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from tests.flow.kit import MIB, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGING = Path(__file__).parent.parent / "packaging"


def shipped(name: str) -> Any:
    return json.loads((PACKAGING / "schemas" / f"{name}.json").read_text())


def test_they_are_those_of_the_message_types() -> None:
    spec = importlib.util.spec_from_file_location("schemas", PACKAGING / "schemas.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.schemas()
    there = {file.name: file.read_text() for file in (PACKAGING / "schemas").glob("*.json")}
    assert there == made, "make them anew: make schemas"
    for text in made.values():
        jsonschema.Draft202012Validator.check_schema(json.loads(text))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    site.set_up(size=MIB)
    site.start()
    site.until_done()
    yield site
    site.close()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["status"], "status"), (["points"], "points"), (["runs"], "runs"),
        (["show", "latest:{image}"], "point"), (["run", "{image}"], "started"),
        (["run", "{image}", "--wait"], "run"), (["events"], "event"),
        (["pause", "{image}"], "volume"), (["resume", "{image}"], "volume"),
        (["reload"], "reloaded"), (["show", "r404"], "error"), (["status", "nothing"], "error"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)  # fmt: skip
def test_what_is_printed_is_of_its_schema(site: Site, words: list[str], name: str) -> None:
    done = site.ctl(*(word.replace("{image}", str(site.image)) for word in words), "--json")
    assert done.documents, done
    for document in done.documents:
        jsonschema.validate(document, shipped(name))
        # Optional fields and more to come: what is known must at least be there by its name.
        assert set(document) & set(fields(shipped(name))), document


def fields(schema: dict[str, Any]) -> dict[str, Any]:
    named = schema["$ref"].rsplit("/", 1)[1]
    found: dict[str, Any] = schema["$defs"][named]["properties"]
    return found
