"""The support bundle of a real daemon: what helps is in it, and no secret in any spelling."""

from __future__ import annotations

import base64
import json
import os
import re
import tarfile
from typing import TYPE_CHECKING

from tests.flow.kit import MIB, Site, told

if TYPE_CHECKING:
    from pathlib import Path


def spellings(secret: bytes) -> list[bytes]:
    """Return how a secret could be written."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode()]
    return [*found, base64.b64encode(secret), base64.urlsafe_b64encode(secret)]


def secrets_of(folder: Path) -> list[bytes]:
    """Return every long text in the key files, as it stands and decoded."""
    found = []
    for file in folder.iterdir():
        for text in re.findall(rb"[A-Za-z0-9+/=_-]{32,}", file.read_bytes()):
            found.append(text)
            try:
                found.append(base64.b64decode(text, validate=True))
            except ValueError:
                continue
    return found


def test_what_is_in_it(site: Site) -> None:
    """The volume's content, the keys and a passphrase in the environment are not."""
    content = site.set_up(size=MIB)
    site.start()
    site.until_done()
    keys = secrets_of(site.keys)
    assert len(keys) > 4
    to = site.folder / "bundle.tar.gz"
    os.environ["BLOCKSNAP_TEST_PASSPHRASE"] = "open sesame, forty thieves"
    try:
        done = site.ctl("support", "--to", str(to), "--json")
    finally:
        del os.environ["BLOCKSNAP_TEST_PASSPHRASE"]
    assert done.code == 0, done
    assert to.stat().st_mode & 0o777 == 0o600
    with tarfile.open(to) as tar:
        files = {m.name.split("/", 1)[1]: tar.extractfile(m) for m in tar.getmembers()}
        texts = {name: file.read() for name, file in files.items() if file is not None}
    assert sorted(texts) == sorted(done.documents[0]["members"])
    volumes = json.loads(texts["status.json"])["volumes"]
    assert [v["volume"] for v in volumes] == [str(site.image)]
    assert str(site.keys).encode() in texts["config.json"]  # where the keys are
    assert b'"type": "point"' in texts["events.jsonl"]
    assert b"Linux" in texts["uname.txt"]
    everything = b"\n".join(texts.values())
    # A public identifier of the repository may be in both; what opens something may not.
    secret = [k for k in keys if k not in (site.repository / "repo.json").read_bytes()]
    assert secret
    for key in [*secret, content[:64], b"open sesame, forty thieves"]:
        for spelling in spellings(key):
            assert spelling not in everything


def test_nobody_answers_and_a_file_in_the_way(site: Site) -> None:
    to = site.folder / "bundle.tar.gz"
    assert site.ctl("support", "--to", str(to)).code == 0
    with tarfile.open(to) as tar:
        names = [m.name for m in tar.getmembers()]
        status = tar.extractfile(next(n for n in names if n.endswith("status.json")))
        assert status is not None
        assert "no daemon answers" in json.loads(status.read())["missing"]
    before = to.read_bytes()
    told(site.ctl("support", "--to", str(to)), 1, "cannot write", "--to FILE")
    assert to.read_bytes() == before
