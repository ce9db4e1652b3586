"""A configuration as lines, as a difference, and as the schema of its file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from blocksnapd.config import load
from blocksnapd.config_view import differences, json_schema, lines, settled

EXAMPLES = sorted((Path(__file__).parent.parent / "packaging" / "examples").glob("*.toml"))


def test_what_holds() -> None:
    found = settled(load(str(EXAMPLES[0])))
    assert found['volumes."vg0/home".every_s'] == 300
    assert found['volumes."vg0/home".retention.keep'][0] == "all for 2h"
    assert 'volumes."vg0/home".retry.first_s = 10.0' in lines(found)
    assert json.loads(json.dumps(found)) == found


def test_what_differs(tmp_path: Path) -> None:
    old = settled(load(str(EXAMPLES[0])))
    changed = tmp_path / "changed.toml"
    text = EXAMPLES[0].read_text()
    assert text.count('every = "5m"') == 1
    changed.write_text(text.replace('every = "5m"', 'every = "7m"').replace("rpo", "#rpo"))
    new = settled(load(str(changed)))
    found = differences(old, new)
    assert '- volumes."vg0/home".every_s = 300.0' in found
    assert '+ volumes."vg0/home".every_s = 420.0' in found
    assert all(line.split('"')[0][2:] in {"path = ", "volumes."} for line in found)
    assert differences(new, new) == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_setting_goes_through_json_and_back(example: Path) -> None:
    found = settled(load(str(example)))
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_of_the_schema(example: Path) -> None:
    jsonschema.validate(tomllib.loads(example.read_text()), json_schema())


@pytest.mark.parametrize(
    "text",
    ["schema = 2", "", "schema = 1\n[volumes]", 'schema = 1\n[volume."a/b"]\nevery = 5',
     "schema = 1\n[target.x]\nurl = '/x'"],
)  # fmt: skip
def test_what_the_schema_refuses(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(text), json_schema())


def test_it_is_a_schema_and_says_only_what_a_file_may() -> None:
    found = json_schema()
    jsonschema.Draft202012Validator.check_schema(found)
    assert "300.0" not in json.dumps(found)
