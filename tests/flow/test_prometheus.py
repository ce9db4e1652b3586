"""A real Prometheus on a real daemon, and on what a daemon exposed while a COW device filled."""

from __future__ import annotations

import http.server
import re
import subprocess
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.flow.prometheus import PROGRAM, prometheus
from tests.servers.ports import free_ports
from tests.test_rules import PROMTOOL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.flow.kit import Site

RECORDING = Path(__file__).parents[1] / "recordings" / "cow_fills.txt"
STEP_MS = 250  # one recorded step, played as if it were a minute
FACTOR = 60_000 // STEP_MS

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs prometheus (Debian: prometheus)")


def test_it_scrapes_the_daemon_and_misses_it_when_it_is_gone(site: Site, tmp_path: Path) -> None:
    [port] = free_ports(1)
    site.set_up()
    text = site.config.read_text().replace("listen = []", f'listen = ["127.0.0.1:{port}"]')
    site.config.write_text(text)
    site.start()
    site.until_done()
    exposition = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read()
    checked = subprocess.run(
        [str(PROMTOOL), "check", "metrics"], input=exposition, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
    where = {"volume": str(site.image), "target": "near"}
    with prometheus(tmp_path / "p", f"127.0.0.1:{port}", interval_ms=250, factor=FACTOR) as asked:
        (ratio,) = asked.until(lambda: asked.values("blocksnap:rpo_ratio")).items()
        assert where.items() <= dict(ratio[0]).items()
        assert 0 <= ratio[1] < 1
        assert list(asked.values("blocksnap_runs_total > 0").values()) == [1]
        asked.until(lambda: {r["health"] for r in _rules(asked.ask("rules"))} == {"ok"})
        assert asked.firing() == set()
        site.end()
        assert asked.until(asked.firing) == {("BlocksnapDown", "critical")}


def _rules(found: dict[str, list[dict[str, list[dict[str, str]]]]]) -> list[dict[str, str]]:
    return [rule for group in found["groups"] for rule in group["rules"]]


def test_the_fill_alert_fires_on_what_the_lab_recorded(tmp_path: Path) -> None:
    """The target was gone and writers went on; the warning comes long before the device is full."""
    steps = recorded()
    assert len(steps) == 60
    with (
        replayed(steps) as target,
        prometheus(tmp_path / "p", target, interval_ms=STEP_MS, factor=FACTOR) as asked,
    ):
        asked.until(lambda: asked.values("blocksnap:cow_fill_ratio"))
        quiet = asked.firing()
        asked.until(lambda: ("BlocksnapCOWFillingUp", "warning") in asked.firing())
        (at_warning,) = asked.values("blocksnap:cow_fill_ratio").values()
        asked.until(lambda: ("BlocksnapCOWFillingUp", "critical") in asked.firing())
        (at_alarm,) = asked.values("blocksnap:cow_fill_ratio").values()
    assert not [alert for alert in quiet if alert[0] == "BlocksnapCOWFillingUp"]
    assert 0.3 < at_warning < 0.75
    assert at_alarm > 0.9


def recorded() -> list[str]:
    """Return the expositions of the recording, whole, one for each step."""
    series: dict[str, str] = {}
    steps = []
    for text in re.split(r"^@ \d+\n", RECORDING.read_text(), flags=re.MULTILINE)[1:]:
        series |= {line.rpartition(" ")[0]: line for line in text.splitlines()}
        steps.append("\n".join(series.values()) + "\n")
    return steps


@contextmanager
def replayed(steps: list[str]) -> Iterator[str]:
    """Serve one step for each scrape, the last one again and again."""
    served = iter(range(1 << 30))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = steps[min(next(served), len(steps) - 1)].encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
