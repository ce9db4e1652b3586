"""The floor of a directory: written by its keeper, read by every tool, never ignored."""

from __future__ import annotations

import pytest

from blocksnapd.errors import StateError
from blocksnapd.store.files import LocalStore
from blocksnapd.store.floor import NAME, floor_s_of, write_floor
from tests.fakes.memory_objects import MemoryObjects


def test_what_is_written_holds_until_it_is_taken_back(tmp_path):
    store = LocalStore(str(tmp_path))
    assert floor_s_of(store) == 0
    write_floor(str(tmp_path), 86_400.0)
    assert floor_s_of(store) == 86_400.0
    before = (tmp_path / NAME).stat().st_ino
    write_floor(str(tmp_path), 86_400.0)
    assert (tmp_path / NAME).stat().st_ino == before  # nothing to write
    write_floor(str(tmp_path), None)
    assert floor_s_of(store) == 0
    assert floor_s_of(MemoryObjects()) == 0


def test_it_is_no_object(tmp_path):
    write_floor(str(tmp_path), 60.0)
    assert LocalStore(str(tmp_path)).list_names("") == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"floor_s": "long"}', '{"floor_s": null}'])
def test_a_floor_that_nobody_can_read_stops_everybody(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(StateError, match="how long points must be kept"):
        floor_s_of(LocalStore(str(tmp_path)))
