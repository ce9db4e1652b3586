"""The lines that ``toml_lines`` finds are the lines a person would point at."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.toml_lines import format_path, key_lines

TEXT = '''# a comment [not.a.table]
schema = 1

[daemon]
state_dir = "/x" # [
[volume."vg0/home"]
a.b = """
x = 1
[nor.this]
"""
targets = [ # }
  "x = ]",
  "y",
]
z = 'a"b'

cow = { space = "x", chunk = "4 KiB" }
[[volume.'q'.hook]]
  k = 1
'''


def test_known_text() -> None:
    assert {format_path(path): line for path, line in key_lines(TEXT).items()} == {
        "schema": 2,
        "daemon": 4,
        "daemon.state_dir": 5,
        'volume."vg0/home"': 6,
        'volume."vg0/home".a.b': 7,
        'volume."vg0/home".targets': 11,
        'volume."vg0/home".z': 15,
        'volume."vg0/home".cow': 17,
        "volume.q.hook": 18,
        "volume.q.hook.k": 19,
    }


@pytest.mark.parametrize("text", ["", "\n\n", "# only", "a=1", "[a]", '"" = 1'])
def test_borders(text: str) -> None:
    tomllib.loads(text)
    assert all(line == 1 for line in key_lines(text).values())


VALUES = st.sampled_from(
    ["1", '"x"', "'#'", '"\\"["', "[1,\n 2]", "{ a = 1 }", "'''\n[b]\n'''", '"""\nc = "\n"""']
)
KEYS = st.text("abc/. ", min_size=1, max_size=4).map(lambda key: f'"{key}"')


@given(st.lists(st.tuples(KEYS, VALUES), max_size=8, unique_by=lambda pair: pair[0]))
def test_every_key_is_where_it_was_written(pairs: list[tuple[str, str]]) -> None:
    """Against a model: the writer counts lines while it writes."""
    text, wanted, line = "[t]\n", {("t",): 1}, 2
    for key, value in pairs:
        text += f"{key} = {value}  # ]\n"
        wanted["t", key.strip('"')] = line
        line += value.count("\n") + 1
    parsed: dict[str, Any] = tomllib.loads(text)
    assert set(parsed["t"]) == {path[1] for path in wanted if len(path) == 2}
    assert key_lines(text) == wanted
