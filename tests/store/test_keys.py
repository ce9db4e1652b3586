"""Key files: what each holds, who can open what, and what damaged ones say."""

from __future__ import annotations

import json
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import FormatError, KeyMissingError, RepositoryFormatError, UsageError
from blocksnapd.store.keys import (
    KdfCost,
    bind_keys,
    is_sealed,
    load_maintenance,
    load_restore,
    load_source,
    new_keys,
    pack_maintenance,
    pack_restore,
    pack_source,
    save,
    unpack_maintenance,
    unpack_restore,
    unpack_source,
)

CHEAP = KdfCost(memory_kib=64, iterations=1, lanes=1)
KEYS = bind_keys(new_keys("0123456789abcdef" * 2), "ab" * 32)


def test_both_files_come_back():
    assert unpack_source(pack_source(KEYS.source)) == KEYS.source
    assert unpack_restore(pack_restore(KEYS)) == KEYS
    assert unpack_source(pack_restore(KEYS)) == KEYS.source


def test_a_maintenance_key_reads_metadata_and_no_content(tmp_path):
    data = pack_maintenance(KEYS)
    assert KEYS.data_private.hex() not in data.decode()
    found = unpack_maintenance(data)
    assert (found.source, found.metadata_private) == (KEYS.source, KEYS.metadata_private)
    assert unpack_source(data) == KEYS.source
    assert unpack_maintenance(pack_restore(KEYS)) == KEYS  # the greater right holds the lesser
    with pytest.raises(KeyMissingError, match="cannot read the content"):
        unpack_restore(data)
    path = str(tmp_path / "maintenance.key")
    save(path, data)
    assert load_maintenance(path) == found


def test_a_source_key_cannot_maintain():
    with pytest.raises(KeyMissingError, match=r"source\.key"):
        unpack_maintenance(pack_source(KEYS.source))


def test_new_keys_are_new():
    other = new_keys(KEYS.source.repository_id)
    secrets = {
        key
        for keys in (KEYS, other)
        for key in (keys.metadata_private, keys.data_private, keys.source.hash_key)
    }
    assert len(secrets) == 6
    assert KEYS.source.metadata_public != KEYS.source.data_public


def test_a_source_key_holds_no_private_key():
    text = pack_source(KEYS.source).decode()
    assert KEYS.metadata_private.hex() not in text
    assert KEYS.data_private.hex() not in text
    with pytest.raises(KeyMissingError, match="cannot read"):
        unpack_restore(text.encode())


def test_each_file_says_what_it_is_for():
    source, restore = json.loads(pack_source(KEYS.source)), json.loads(pack_restore(KEYS))
    assert "cannot" in source["purpose"]
    assert "reads every restore point" in restore["purpose"]


def test_a_sealed_key_shows_no_secret_and_opens_with_its_passphrase():
    data = pack_restore(KEYS, "Zauber-Spruch ü", CHEAP)
    assert is_sealed(data)
    for secret in (KEYS.metadata_private, KEYS.data_private, KEYS.source.hash_key):
        assert secret.hex() not in data.decode()
    assert unpack_restore(data, "Zauber-Spruch ü") == KEYS
    with pytest.raises(KeyMissingError, match="does not open"):
        unpack_restore(data, "Zauber-Spruch u")
    with pytest.raises(KeyMissingError, match="sealed by a passphrase"):
        unpack_restore(data)
    with pytest.raises(KeyMissingError, match="cannot write"):
        unpack_source(data)


@pytest.mark.parametrize("field", ["metadata_public", "data_private", "metadata_private"])
def test_a_restore_key_with_a_wrong_bit_is_refused(field):
    value = json.loads(pack_restore(KEYS))
    value[field] = value[field][:20] + ("0" if value[field][20] != "0" else "1") + value[field][21:]
    with pytest.raises(RepositoryFormatError, match="damaged"):
        unpack_restore(json.dumps(value).encode())
    if field != "data_private":
        value["kind"] = "maintenance"
        with pytest.raises(RepositoryFormatError, match="damaged"):
            unpack_maintenance(json.dumps(value).encode())


@pytest.mark.parametrize("field", ["repository_id", "salt", "box", "iterations", "kdf"])
def test_a_changed_sealed_key_does_not_open(field):
    value = json.loads(pack_restore(KEYS, "x", CHEAP))
    where = value if field == "repository_id" else value["sealed"]
    old = where[field]
    where[field] = old + 1 if isinstance(old, int) else ("f" if old[0] != "f" else "e") + old[1:]
    with pytest.raises((KeyMissingError, RepositoryFormatError)):
        unpack_restore(json.dumps(value).encode(), "x")


@pytest.mark.parametrize(
    ("field", "value"),
    [("memory_kib", 1 << 40), ("iterations", 10**9), ("lanes", 0), ("lanes", "4")],
)
def test_a_key_file_cannot_cost_more_than_the_limits(field, value):
    file = json.loads(pack_restore(KEYS, "x", CHEAP))
    file["sealed"][field] = value
    with pytest.raises(RepositoryFormatError, match=field):
        unpack_restore(json.dumps(file).encode(), "x")


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_documented_error(data):
    for unpack in (unpack_source, unpack_maintenance, unpack_restore):
        with pytest.raises((FormatError, KeyMissingError)):
            unpack(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=70),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
)


@given(st.data())
def test_any_value_in_any_field_gives_a_key_or_a_documented_error(data):
    value = json.loads(pack_restore(KEYS))
    field = data.draw(st.sampled_from(sorted(value)))
    value[field] = data.draw(json_values)
    for unpack in (unpack_source, unpack_maintenance, unpack_restore):
        try:
            unpack(json.dumps(value).encode())
        except (FormatError, KeyMissingError):
            continue


def test_files_are_made_once_and_for_the_owner_only(tmp_path):
    path = str(tmp_path / "new" / "source.key")
    save(path, pack_source(KEYS.source))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(UsageError, match="exists and was not touched"):
        save(path, b"other")
    assert load_source(path) == KEYS.source


def test_a_passphrase_is_asked_only_where_it_is_needed(tmp_path):
    asked = []

    def ask() -> str:
        asked.append(1)
        return "x"

    plain, sealed = str(tmp_path / "plain"), str(tmp_path / "sealed")
    save(plain, pack_restore(KEYS))
    save(sealed, pack_restore(KEYS, "x", CHEAP))
    assert load_restore(plain, ask) == KEYS
    assert not asked
    assert load_restore(sealed, ask) == KEYS
    assert len(asked) == 1


def test_a_missing_key_file_says_what_to_bring(tmp_path):
    with pytest.raises(KeyMissingError, match="cannot be read") as error:
        load_source(str(tmp_path / "none.key"))
    assert "init" in error.value.hint
