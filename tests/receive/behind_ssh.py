"""A receiver that a real sshd starts for a source, for one test. Edge."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from blocksnapd.receiver_url import parse_ssh
from blocksnapd.store.receiver import ReceiverStore
from blocksnapd.store.ssh import SshDialer
from tests.sshd import Sshd

if TYPE_CHECKING:
    from pathlib import Path


class BehindSsh:
    """``with BehindSsh(tmp_path, role="source") as receiver: store = receiver.store()``."""

    def __init__(self, folder: Path, *, role: str) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        self.config = folder / "receive.toml"
        self.config.write_text(
            f'schema = 1\n[receive]\nroot = "{self.root}"\nreserve = "0 B"\n'
            "[defaults]\nremote_maintenance = true\n"
        )
        command = f"{sys.executable} -P -m blocksnapd receive --stdio --host db01 --role {role}"
        self.sshd = Sshd(folder / "sshd", f"{command} --config {self.config}")

    def __enter__(self) -> Self:
        self.sshd.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.sshd.stop()

    def store(self) -> ReceiverStore:
        """Return the place as the source reaches it."""
        return ReceiverStore(self.sshd.url, SshDialer(parse_ssh(self.sshd.url), self.sshd.access))
