"""Opening object storage: what is missing is told, credentials come from where they should."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest

from blocksnapd.errors import KeyMissingError, UsageError
from blocksnapd.model import NO_ACCESS, Access
from blocksnapd.s3_url import parse_s3_url
from blocksnapd.store.s3 import S3Store
from blocksnapd.store.s3_client import Clients

PLACE = parse_s3_url("s3://vault/x?endpoint=http://127.0.0.1:1")


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No credentials of whoever runs the tests."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def key_of(clients: Clients) -> tuple[str, str]:
    """Return the keys that both libraries use, which must be the same."""
    data, admin = clients.data.credential_provider(), clients.admin
    signs = admin._request_signer._credentials
    assert (data["access_key_id"], data["secret_access_key"]) == (
        signs.access_key, signs.secret_key
    )  # fmt: skip
    return signs.access_key, signs.secret_key


def test_credentials_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "two")
    assert key_of(Clients(PLACE, NO_ACCESS)) == ("one", "two")


def test_clients_that_nobody_uses_any_more_go(monkeypatch):
    """That of botocore takes some ten MiB, and a daemon lives for years."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "user")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    clients = Clients(PLACE, NO_ACCESS)
    other = clients.at(PLACE)
    seen = [weakref.ref(one) for one in (clients, other, clients.admin)]
    del clients, other
    gc.collect()
    assert [one() for one in seen] == [None, None, None]


def test_a_named_file_goes_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "two")
    path = tmp_path / "s3.credentials"
    path.write_text("[default]\naws_access_key_id = three\naws_secret_access_key = four\n")
    assert key_of(Clients(PLACE, Access(credentials=str(path)))) == ("three", "four")


@pytest.mark.parametrize(
    "text", [None, "", "not a file of settings", "[default]\naws_access_key_id = one\n"]
)
def test_credentials_that_are_not_there_are_told(tmp_path, text):
    path = tmp_path / "s3.credentials"
    if text is not None:
        path.write_text(text)
    with pytest.raises(KeyMissingError) as found:
        Clients(PLACE, Access(credentials=str(path)))
    assert found.value.effect
    assert found.value.hint


def test_no_credentials_anywhere_is_told():
    with pytest.raises(KeyMissingError, match="in the environment"):
        Clients(PLACE, NO_ACCESS)


def test_a_certificate_that_is_not_there_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "two")
    with pytest.raises(KeyMissingError, match="certificate"):
        Clients(PLACE, Access(ca=str(tmp_path / "none.pem")))


@pytest.mark.parametrize("library", ["obstore", "botocore"])
def test_a_missing_library_is_told_with_what_to_install(monkeypatch, library):
    for name in [n for n in sys.modules if n.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=library) as found:
        S3Store("s3://vault/x", NO_ACCESS)
    assert "blocksnap[s3]" in found.value.hint


def test_a_malformed_url_is_told():
    with pytest.raises(UsageError, match="bucket"):
        S3Store("s3://No/x", NO_ACCESS)


def test_the_libraries_are_not_loaded_for_a_directory(tmp_path):
    code = (
        "import sys; from blocksnapd.store.places import open_store; open_store(sys.argv[1]);"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert not {"obstore", "botocore"} & set(done.stdout.split())
    assert "blocksnapd" in done.stdout
