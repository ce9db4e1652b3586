"""Two hosts paired by hand as their operators do it: real programs, from a code to a revocation."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
import urllib.request

import pytest

WAIT_S_MAX = 60.0
METRIC = 'blocksnap_tls_certificate_expiry_timestamp_seconds{role="receiver",target=""}'


class Site:
    """A receiver that runs, and a folder for each side."""

    def __init__(self, folder, tcp_port: int, metrics_port: int) -> None:
        self.folder, self.url = folder, f"https://localhost:{tcp_port}"
        self.metrics = f"http://127.0.0.1:{metrics_port}/metrics"
        (folder / "root").mkdir()
        self.config = folder / "receive.toml"
        self.config.write_text(
            f'schema = 1\n[receive]\nlisten = ["localhost:{tcp_port}"]\nroot = "{folder}/root"\n'
            f'reserve = "0 B"\nmetrics = ["127.0.0.1:{metrics_port}"]\n'
            f'[pki]\ndirectory = "{folder}/pki"\n'
        )
        self.log = folder / "log"
        with self.log.open("wb") as log:
            argv = [sys.executable, "-P", "-m", "blocksnapd", "receive", "--config", self.config]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log)
        self.wait_for(lambda: b"ready: listening" in self.log.read_bytes())

    def wait_for(self, check) -> None:
        deadline = time.monotonic() + WAIT_S_MAX
        while not check():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def ctl(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "blocksnapctl", *words], cwd=self.folder, check=False,
            capture_output=True, text=True, env={**os.environ, **environment}, timeout=WAIT_S_MAX,
        )  # fmt: skip


@pytest.fixture
def site(tmp_path, unused_tcp_port_factory):
    made = Site(tmp_path, unused_tcp_port_factory(), unused_tcp_port_factory())
    yield made
    made.process.terminate()
    assert made.process.wait(WAIT_S_MAX) == 0


def test_from_a_code_to_a_repository_and_a_revocation(site):
    shown = site.ctl("pair-code", "db01", "--config", "receive.toml")
    assert shown.returncode == 0, shown.stderr
    code = shown.stdout.split("\n")[0]

    def pair(code: str) -> subprocess.CompletedProcess[str]:
        return site.ctl("pair", site.url, code, "--as", "db01", "--pki", "source")

    wrong = pair("0000-0000")
    assert wrong.returncode == 77
    assert "the code was wrong" in wrong.stderr
    paired = pair(code)
    assert paired.returncode == 0, paired.stderr
    target = tomllib.loads(paired.stdout[paired.stdout.index("[target.") :])["target"]["localhost"]
    again = pair(code)
    assert again.returncode == 77
    assert "no code is open" in again.stderr

    opened = {"BLOCKSNAP_CA": target["ca"], "BLOCKSNAP_CERT": target["cert"]}
    init = site.ctl("init", site.url, "--keys", "keys", **opened)
    assert init.returncode == 0, init.stderr
    assert (site.folder / "root/db01/repo.json").exists()
    with urllib.request.urlopen(site.metrics) as answer:
        assert METRIC in answer.read().decode()

    assert site.ctl("revoke", "db01", "--config", "receive.toml").returncode == 0

    def is_refused() -> bool:
        tried = site.ctl("init", site.url, "--keys", f"keys{time.monotonic_ns()}", **opened)
        return tried.returncode == 77 and "not let in any more" in tried.stderr

    site.wait_for(is_refused)
    log = site.log.read_text()
    assert "the code was wrong" in log
    assert "paired: source:db01, asked for by 127.0.0.1" in log or "by ::1" in log
