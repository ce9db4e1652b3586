"""A real Prometheus in a folder: a plain process on a free port, with our rules. Edge."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tests.servers.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
RULES = ROOT / "packaging" / "rules" / "blocksnap.rules.yml"
PROGRAM = shutil.which(
    "prometheus", path=f"{os.environ.get('PATH', '')}:{ROOT / 'build' / 'prometheus'}"
)
LIMIT_S = 60.0
UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
CONFIG = """\
global: {{scrape_interval: {interval_ms}ms, evaluation_interval: {interval_ms}ms}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: blocksnap
    static_configs: [{{targets: ["{target}"]}}]
"""


def faster(rules: str, factor: int) -> str:
    """Return ``rules`` with all durations divided by ``factor``: a story played in fast motion."""

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * UNITS_MS[found[3]] // factor or 1}ms"

    rules = re.sub(r"(\[|for: |offset )(\d+)([smhd])\b", shorter, rules)
    return re.sub(r"(\d+) \* 3600\)", lambda found: f"{int(found[1]) * 3600 / factor})", rules)


class Prometheus:
    """One that runs; asked over its HTTP API."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self._port, self._process, self._log = port, process, log

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer; None while it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", f"/api/v1/{path}?{urlencode(query)}")
            reply = connection.getresponse()
            if reply.status == 503:
                return None  # it listens before it is ready
            answer = json.loads(reply.read())
            assert answer["status"] == "success", answer
            return answer["data"]
        return None

    def values(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """Return what an expression is now: labels → value."""
        found = (self.ask("query", query=expression) or {"result": []})["result"]
        return {frozenset(one["metric"].items()): float(one["value"][1]) for one in found}

    def firing(self) -> set[tuple[str, str]]:
        """Return the alerts that fire now: (name, severity)."""
        alerts = (self.ask("alerts") or {"alerts": []})["alerts"]
        return {
            (a["labels"]["alertname"], a["labels"]["severity"])
            for a in alerts
            if a["state"] == "firing"
        }

    def until(self, condition: Callable[[], Any]) -> Any:
        """Return what ``condition`` gives once that is something."""
        deadline = time.monotonic() + LIMIT_S
        while not (found := condition()):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()[-3000:]
            time.sleep(0.05)
        return found


@contextlib.contextmanager
def prometheus(
    folder: Path, target: str, *, interval_ms: int, factor: int = 1
) -> Iterator[Prometheus]:
    """Run one that scrapes ``target`` every ``interval_ms``, our rules ``factor`` times as fast."""
    assert PROGRAM is not None
    folder.mkdir()
    (folder / "rules.yml").write_text(faster(RULES.read_text(), factor))
    (folder / "prometheus.yml").write_text(CONFIG.format(interval_ms=interval_ms, target=target))
    [port], log = free_ports(1), folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [PROGRAM, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
             f"--web.listen-address=127.0.0.1:{port}"],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        yield Prometheus(port, process, log)
    finally:
        process.kill()
        process.wait()
