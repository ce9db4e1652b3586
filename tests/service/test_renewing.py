"""The daemon's look at its certificates: told, renewed in time, and what stops that is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from blocksnapd.errors import StoreError
from blocksnapd.metrics import Metrics
from blocksnapd.model import Access
from blocksnapd.pki.certificates import LIFETIME_S, Authority, key_pem, make_request, new_key
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service import renewing
from blocksnapd.service.renewing import LOOK_EVERY_S, Renewing

URL = "https://backup1:7420"


@dataclass
class Place:
    """What of a target counts here."""

    url: str
    access: Access


class Bench:
    def __init__(self, folder) -> None:
        self.clock = ManualClock()
        self.authority = Authority.make(self.clock.now())
        self.metrics = Metrics(CollectorRegistry())
        self.said: list[tuple[str, str]] = []
        self.cert = folder / "backup1.pem"
        self.cert.write_bytes(self.signed())
        (folder / "ca.crt").write_bytes(self.authority.certificate)
        self.access = Access(ca=str(folder / "ca.crt"), cert=str(self.cert))
        self.renewing = Renewing(
            {"near": Place(URL, self.access)},  # type: ignore[dict-item]
            metrics=self.metrics, say=self.say, clock=self.clock,
        )  # fmt: skip

    def signed(self) -> bytes:
        key = new_key()
        request = make_request(key)
        return key_pem(key) + self.authority.sign(request, "source:db01", "a", self.clock.now())

    def say(self, kind: str, message: str, **_: Any) -> None:
        self.said.append((kind, message))

    def ends(self, role: str = "source") -> float | None:
        name = "blocksnap_tls_certificate_expiry_timestamp_seconds"
        return self.metrics.registry.get_sample_value(name, {"target": "near", "role": role})

    async def look(self, url: str = URL) -> None:
        await self.renewing.look("near", url, self.access)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


async def test_until_when_they_are_good_is_a_metric(bench):
    await bench.look()
    assert bench.ends() == bench.clock.now() + LIFETIME_S
    assert bench.ends("authority") > bench.clock.now() + 20 * LIFETIME_S
    assert bench.said == []


async def test_a_certificate_that_is_due_is_renewed(bench, monkeypatch):
    asked = []

    def renew(url: str, access: Access) -> float:
        asked.append(url)
        bench.cert.write_bytes(bench.signed())
        return bench.clock.now() + LIFETIME_S

    monkeypatch.setattr(renewing, "renew", renew)
    bench.clock.jump(LIFETIME_S * 0.6)
    await bench.look()
    assert asked == []
    bench.clock.jump(LIFETIME_S * 0.1)
    await bench.look()
    await bench.look()
    assert asked == [URL]
    assert bench.ends() == bench.clock.now() + LIFETIME_S
    assert [kind for kind, _ in bench.said] == ["certificate-renewed"]
    assert "good for 90d" in bench.said[0][1]


async def test_what_stops_a_renewal_is_said_and_tried_again(bench, monkeypatch):
    def renew(url: str, access: Access) -> float:
        raise StoreError(f"{url} cannot be reached", hint="Look after it.")

    monkeypatch.setattr(renewing, "renew", renew)
    bench.clock.jump(LIFETIME_S * 0.7)
    await bench.look()
    kind, said = bench.said[-1]
    assert kind == "certificate-trouble"
    assert "target near: https://backup1:7420 cannot be reached. Look after it." in said
    assert bench.ends() is not None
    assert LOOK_EVERY_S < LIFETIME_S / 3 / 100


async def test_a_certificate_of_ones_own_is_told_and_left_alone(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(renewing, "renew", lambda *_: pytest.fail("renewed"))
    key, cert = bench.cert.read_bytes().split(b"-----BEGIN CERT", 1)
    (tmp_path / "key.pem").write_bytes(key)
    bench.cert.write_bytes(b"-----BEGIN CERT" + cert)
    bench.access = Access(ca=bench.access.ca, cert=bench.access.cert, key=str(tmp_path / "key.pem"))
    bench.clock.jump(LIFETIME_S * 0.9)
    await bench.look()
    assert bench.ends() is not None
    assert bench.said == []


async def test_a_file_that_is_gone_is_said(bench):
    bench.cert.unlink()
    await bench.look()
    assert "cannot be read" in bench.said[0][1]


async def test_what_is_for_ssh_is_no_certificate(bench):
    bench.access = Access(ca="/none/known_hosts", key="/none/key")
    await bench.look("ssh://backup1")
    assert bench.said == []
    assert bench.ends() is None
