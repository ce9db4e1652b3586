"""A real sshd on a free port, with keys of its own, for one test. Edge."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from blocksnapd.model import Access

if TYPE_CHECKING:
    from pathlib import Path

START_S_MAX = 20.0
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def need_sshd() -> str:
    """Return where sshd is; without it skip aloud, under make fail by name."""
    if SSHD is None:
        sentence = "this takes openssh-server, which make setup installs"
        if os.environ.get("BLOCKSNAP_LAB_REQUIRED"):
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence)
    return SSHD


class Sshd:
    """Lets one key in, of this very user, for one forced command. ``access`` is the way there."""

    def __init__(self, folder: Path, command: str) -> None:
        self._program = need_sshd()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._user = pwd.getpwuid(os.getuid()).pw_name
        self._key("key")
        self.new_host_key()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.force(command)
        self.know_host()
        self.access = Access(ca=str(folder / "known_hosts"), key=str(folder / "key"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ssh://{self._user}@127.0.0.1:{self.port}"

    def force(self, command: str, options: str = "restrict") -> None:
        """Have the key run ``command`` and nothing else."""
        public = (self._folder / "key.pub").read_text()
        line = f'{options},command="{command}" {public}'
        (self._folder / "authorized_keys").write_text(line)

    def new_host_key(self) -> None:
        for path in self._folder.glob("host*"):
            path.unlink()
        self._key("host")

    def know_host(self) -> None:
        kind, key, *_ = (self._folder / "host.pub").read_text().split()
        known = f"[127.0.0.1]:{self.port} {kind} {key}\n"
        (self._folder / "known_hosts").write_text(known)

    def start(self) -> None:
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)  # where sshd locks its unprivileged half in
        settings = {
            "Port": self.port, "ListenAddress": "127.0.0.1", "HostKey": self._folder / "host",
            "AuthorizedKeysFile": self._folder / "authorized_keys", "StrictModes": "no",
            "PidFile": "none", "UsePAM": "no", "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "MaxStartups": 100,  # by itself it turns some of more than ten at once away, by chance
        }  # fmt: skip
        config = self._folder / "sshd_config"
        config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        log = (self._folder / "log").open("ab")
        with log:
            argv = [self._program, "-D", "-e", "-f", str(config)]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log)
        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def _key(self, name: str) -> None:
        path = self._folder / name
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
