"""From a configuration to the place of its hosts."""

from __future__ import annotations

import pytest

from blocksnapd.config_receive import Receive, ReceiveConfig
from blocksnapd.errors import KeyMissingError
from blocksnapd.receive.bucket import BucketRoot
from blocksnapd.receive.open_root import open_root
from blocksnapd.receive.roots import DirectoryRoot

URL = "s3://vault/hosts?endpoint=http://127.0.0.1:1&region=eu-1"


def config_of(**receive: str) -> ReceiveConfig:
    return ReceiveConfig(path="/etc/x.toml", receive=Receive.model_validate(receive))


def test_a_directory_or_a_bucket(tmp_path):
    assert isinstance(open_root(config_of(root="/srv")), DirectoryRoot)
    assert open_root(config_of(root="/srv")).url("db01") == "/srv/db01"
    given = tmp_path / "credentials"
    given.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    root = open_root(config_of(root=URL, credentials=str(given), spool=str(tmp_path)))
    assert isinstance(root, BucketRoot)
    assert root.url("db01") == "s3://vault/hosts/db01?endpoint=http://127.0.0.1:1&region=eu-1"


def test_a_bucket_without_credentials_is_told_at_once(tmp_path):
    with pytest.raises(KeyMissingError, match="no credentials"):
        open_root(config_of(root=URL, credentials=str(tmp_path / "none")))
