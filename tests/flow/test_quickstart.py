"""What README.md says of object storage, typed at a real SeaweedFS; the other ways are in the lab.

Everything lies in one folder, the volume is a file, and each bucket is a place in SeaweedFS.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.flow.kit import LIMIT_S
from tests.readme import section, with_words

if TYPE_CHECKING:
    import pytest

    from tests.flow.kit import Site
    from tests.servers.seaweed import SeaweedFs

PROGRAMS = """\
blocksnapctl() {{ {python} -P -m blocksnapctl "$@"; }}
blocksnapd() {{ {python} -P -m blocksnapd "$@"; }}
"""
AMAZON = "s3://vault/hosts/db01?region=eu-central-1"
OWN = "s3://vault/hosts/db01?endpoint=https://s3.lan:8333"
LOCK = "&lock=30d"  # the bucket of these tests was made without Object Lock


def typed(text: str, folder: Path) -> str:
    """Type a block of the README in a folder; return what was said."""
    programs = PROGRAMS.format(python=shlex.quote(sys.executable))
    done = subprocess.run(
        ["bash", "-euc", programs + text], cwd=folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_commands_for_object_storage(
    site: Site, seaweed: SeaweedFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", seaweed.admin)
    told, url = section("To object storage"), seaweed.url()
    keys, bucket = {"/etc/blocksnap": str(site.keys)}, {AMAZON: url}
    amazon, own = told.commands[0].splitlines()
    typed(with_words(amazon, keys | bucket), site.folder)
    typed(with_words(own, {OWN: seaweed.url(), "/etc/blocksnap": "other-keys"}), site.folder)
    content = os.urandom(1 << 20)
    site.write_image((0, content), size=len(content))
    site.write_config()
    text = with_words(told.toml[0], {LOCK: ""} | keys | bucket)
    volume = {"/srv/vm/disk.img": str(site.image), '["vault"]': '["cloud"]'}
    text += with_words(section("Protect a volume").toml[1], volume)
    site.config.write_text(site.config.read_text().partition("[target.")[0] + text)
    for name in ("s3", "maintainer"):
        (site.keys / f"{name}.credentials").write_text(Path(seaweed.admin).read_text())
    site.start()
    site.until_done()
    words = {LOCK: ""} | bucket | {"vg0/home": str(site.image)}
    said = typed(with_words(told.commands[1], words), site.keys)
    assert "the structure is whole" in said
    assert (site.keys / "home.img").read_bytes() == content
