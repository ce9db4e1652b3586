"""A thief has a host's certificate and source.key; the receiver of that host is a real process.

Whatever the thief sends, by the real client or as HTTP of its own making: what arrived before stays
as it was, and stays for as long as the receiver's floor says; the host goes on afterwards. Rules by
themselves are tested in ``tests/receive``; here all of it stands together.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import secrets
import ssl
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from blake3 import blake3

from blocksnapd.blocks import hash_blocks, state_sum
from blocksnapd.errors import ClockOffsetError, QuotaError, RefusedError, StoreRefusedError
from blocksnapd.keep_rules import DAY_S, parse_rule
from blocksnapd.maintain.prune import Pruner
from blocksnapd.maintain.retention import Policy
from blocksnapd.model import PointFacts
from blocksnapd.store.files import LocalStore
from blocksnapd.store.keys import load_maintenance
from blocksnapd.store.names import point_name
from blocksnapd.store.receiver import open_receiver
from blocksnapd.store.repository import Repository
from tests.flow.kit import MIB, Site, explained
from tests.flow.test_receiver_flow import change, restored, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.flow.vault import Vault

BLOCK = 4096
FORGED = 6


class Thief:
    """What somebody can do who copied the host's certificate, its key and source.key."""

    def __init__(self, site: Site, vault: Vault) -> None:
        self.vault = vault
        self.signed = vault.authority.client("source", "db01")
        self.access = vault.authority.access(self.signed)
        self.repository = Repository.open(
            vault.url, access=self.access, source_key=str(site.keys / "source.key")
        )
        self.store = open_receiver(vault.url, self.access)
        (self.volume_id,) = os.listdir(vault.root / "db01" / "v")

    def forge(self, when: datetime) -> str:
        """Ship a genuine full point of that time with made up content; return its id."""
        head, point_id = self.repository.newest(self.volume_id), f"p{secrets.token_hex(8)}"
        assert head is not None
        sink = self.repository.begin(self.volume_id, point_id, block_size=BLOCK, base=head)
        data, blocks = secrets.token_bytes(BLOCK), np.zeros(1, dtype=np.uint64)
        hashes = hash_blocks(data, BLOCK, self.repository.hash_key)
        try:
            sink.add(blocks, hashes, memoryview(data))
            sink.commit(
                PointFacts(
                    volume_id=self.volume_id, volume_name="disk", point_id=point_id, time=when,
                    size=head.size, block_size=BLOCK, kind="full", method="first", driver="file",
                    consistency="crash", chunk_size=BLOCK, changed_bytes=BLOCK,
                    state_sum=state_sum(blocks, hashes),
                )
            )  # fmt: skip
        except BaseException:
            sink.abort()
            raise
        return point_id

    def fill(self, count: int, content: bytes) -> None:
        """Put so many packs of that content."""
        day, session = f"v/{self.volume_id}/d/20261123", f"p{secrets.token_hex(8)}"
        for number in range(count):
            self.store.put(f"{day}/{session}-{number:04x}-0123abcd.pk", [content])

    def say(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """Send a request as it stands; return status and body of the answer."""
        context = ssl.create_default_context(cafile=self.vault.authority.ca)
        context.load_cert_chain(*self.signed)
        line = http.client.HTTPSConnection(
            "127.0.0.1", self.vault.tcp_port, context=context, timeout=20
        )
        said = {k.replace("_", "-"): v for k, v in headers.items()}
        with contextlib.closing(line):
            line.request(method, path, body or None, said)
            answer = line.getresponse()
            return answer.status, answer.read()

    def put(self, name: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        """Put as the real client would, headers apart."""
        proper = {
            "Blocksnap_Digest": blake3(body).hexdigest(),
            "Blocksnap_Time": f"{time.time():.6f}",
            "Content_Length": str(len(body)),
        }
        return self.say("PUT", f"/v1/objects/{name}", body, **(proper | headers))


@pytest.fixture
def vault(vault: Vault) -> Iterator[Vault]:
    """A receiver with a floor, which ends in good order."""
    vault.reload('floor = "30d"')
    yield vault
    if vault.process is not None:
        vault.end()


@pytest.fixture
def contents(site: Site, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Three good points of a host whose daemon has ended; what it held at each."""
    found = [set_up(site, vault, monkeypatch)]
    site.start()
    assert site.until_done()["last_run"]["result"] == "success"
    for seed in (2, 3):
        found.append(change(site, found[-1], seed))
        assert site.run()["result"] == "success"
    assert site.end() == 0
    return found


def tree(root: Path) -> dict[str, str]:
    """Return every file below ``root`` and a digest of it."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def good_ids(site: Site, vault: Vault) -> list[str]:
    done = site.ctl("--repo", str(vault.root / "db01"), "points", "--json", key=True)
    assert done.code == 0, done
    return [point["id"] for point in done.documents[0]["points"]][:3]


def assert_good(site: Site, vault: Vault, ids: list[str], contents: list[bytes]) -> None:
    """The good points are listed and give back what the host held."""
    assert good_ids(site, vault) == ids
    for point_id, content in zip(ids, contents, strict=True):
        assert restored(site, str(vault.root / "db01"), point_id) == content


def test_nothing_there_is_changed_or_read(site: Site, vault: Vault, contents) -> None:
    """Removing, overwriting, history, packs, other hosts, other people's names: all refused."""
    other = vault.root / "db02"
    assert site.ctl("init", str(other), "--keys", str(site.folder / "keys2")).code == 0
    ids, before, thief = good_ids(site, vault), tree(vault.root), Thief(site, vault)
    volume, names = thief.volume_id, sorted(before)
    mine = [name.removeprefix("db01/") for name in names if name.endswith((".pt", ".pk"))]
    points = [name for name in mine if name.endswith(".pt")]
    packs = [name for name in mine if name.endswith(".pk")]
    assert (len(points), bool(packs)) == (3, True)
    for name in ("repo.json", *mine):
        assert thief.say("DELETE", f"/v1/objects/{name}")[0] == 403, name
        for more in ({}, {"Blocksnap_Again": "1"}):
            assert thief.put(name, b"BSNPOINT" + b"x" * 300, **more)[0] == 409, name
        with pytest.raises(StoreRefusedError):
            thief.store.delete(name)
    for name in (points[0], *packs):
        for verb in ("objects", "facts"):
            assert thief.say("GET", f"/v1/{verb}/{name}")[0] == 403, name
    shown = thief.say("GET", f"/v1/names/v/{volume}/p/")
    assert shown == (200, "".join(f"{name}\n" for name in points[1:]).encode())
    asked = ["names/v/", f"names/v/{volume}/d/", f"names/m/{volume}/", "children/v/", "children/"]
    made = [f"m/{volume}/00000000000000000001.mf", f"g/{volume}/x", f"t/{volume}/x.ok", ".floor",
            "lock", f"v/{volume}/l/x.ly"]  # fmt: skip
    for path in asked:
        assert thief.say("GET", f"/v1/{path}")[0] in (400, 403), path
    for name in made:
        assert thief.put(name, b"x")[0] in (400, 403), name
    for way in ("../db02/repo.json", "%2e%2e/db02/repo.json", "v/%2e%2e/%2e%2e/db02/repo.json",
                "%2fetc%2fpasswd", "v//x", "db02/repo.json", "repo.json%00"):  # fmt: skip
        for method in ("GET", "DELETE"):
            status, body = thief.say(method, f"/v1/objects/{way}")
            assert status in (400, 403, 404), (way, status)
            assert b"source_key" not in body
    # Who calls is what the certificate says, whatever else does.
    own = (vault.root / "db01" / "repo.json").read_bytes()
    said = {"Host": "db02", "X_Forwarded_For": "db02", "Blocksnap_Host": "db02"}
    assert thief.say("GET", "/v1/objects/repo.json", **said) == (200, own)
    assert tree(vault.root) == before
    assert_good(site, vault, ids, contents)


def test_made_up_times_are_refused_or_harm_nothing(site: Site, vault: Vault, contents) -> None:
    """The clock that counts is the receiver's: by header, by point, by the client's own hand."""
    ids, thief = good_ids(site, vault), Thief(site, vault)
    name, now = point_name(thief.volume_id, 4, "p" + "7" * 16), time.time()
    for said in ("", "nan", "-1", f"{now - 4000:.6f}", f"{now + 4000:.6f}"):
        assert thief.put(name, b"x" * 300, Blocksnap_Time=said)[0] == 412, said
    with pytest.raises(ClockOffsetError, match="after the receiver's clock"):
        thief.forge(datetime.now(UTC) + timedelta(hours=2))
    before = time.time()
    forged = thief.forge(datetime(1999, 1, 1, tzinfo=UTC))
    (path,) = (vault.root / "db01").glob(f"v/*/p/*{forged}*.pt")
    assert before - 2 <= path.stat().st_mtime <= time.time() + 2  # arrival: not what it says
    assert_good(site, vault, ids, contents)


def test_forged_points_push_no_good_one_out_before_the_floor(site, vault, contents) -> None:
    """Ten days later the newest points are all the thief's, and only the rules would let go."""
    ids, thief = good_ids(site, vault), Thief(site, vault)
    now = datetime.now(UTC)
    for number in range(FORGED):
        ago = timedelta(days=number % 3 * 400, minutes=number)
        thief.forge(now - ago)
    place, passed = vault.root / "db01", 10 * DAY_S
    for path in place.rglob("*.pt"):
        os.utime(path, (path.stat().st_mtime - passed,) * 2)
    key = load_maintenance(str(site.keys / "maintenance.key"))
    pruner = Pruner(LocalStore(str(place)), key, lambda: time.time() + passed)
    hard = Policy((parse_rule("all for 2h"),), min_points=1, max_delete_pct=100)
    plan = pruner.plan(thief.volume_id, hard)
    assert (len(plan.points), plan.forgotten) == (3 + FORGED, ())
    assert {p.point_id: p.reasons for p in plan.points[:3]} == dict.fromkeys(ids, ("floor 30d 0h",))
    # A plan that was made without the floor is not done either.
    floor = (place / ".floor").read_bytes()
    (place / ".floor").unlink()
    bare = pruner.plan(thief.volume_id, hard)
    assert set(ids) <= {p.point_id for p in bare.forgotten}  # it was the floor that kept them
    # Without it the rules still go by the good points' own times, and by who came first.
    daily = Policy((parse_rule("1/d for 30d"),), min_points=1, max_delete_pct=100)
    assert ids[0] in {p.point_id for p in pruner.plan(thief.volume_id, daily).kept}
    (place / ".floor").write_bytes(floor)
    with pytest.raises(RefusedError, match="arrived less than 30d"):
        pruner.apply(bare)
    assert_good(site, vault, ids, contents)


def test_maintenance_and_the_host_go_on_after_a_thief(site, vault, contents) -> None:
    """The receiver's own round, then the real prune, then the next cycle of the host."""
    ids, thief = good_ids(site, vault), Thief(site, vault)
    for _ in range(FORGED):
        thief.forge(datetime(2001, 1, 1, tzinfo=UTC))
    place, name = vault.root / "db01", str(site.image)
    maintenance = str(site.keys / "maintenance.key")
    keep = ("--keep", "all for 1d")
    done = site.daemon_program("maintain", str(place), "--key", maintenance, *keep)
    assert done.code == 0, done
    assert_good(site, vault, ids, contents)
    site.start()
    latest = change(site, contents[-1], 4)
    assert site.run()["result"] == "success"
    assert restored(site, str(place), f"latest:{name}") == latest
    # While the host is awake it tells what it did not do, and what is not shown any more.
    thief.forge(datetime.now(UTC))
    assert site.run()["result"] == "success"
    max(place.rglob("*.pt")).unlink()
    assert site.run()["result"] == "success"
    events = site.ctl("events", "--json").documents
    said = [e["message"] for e in events if e["type"] == "place-changed"]
    assert len(said) == 2
    assert "somebody else has the keys" in said[0]
    assert "shows an older state" in said[1]
    assert restored(site, str(place), f"latest:{name}") == latest
    assert site.end() == 0
    for path in place.rglob("*.pt"):  # the floor has passed; the host's own points are of today
        os.utime(path, (path.stat().st_mtime - 31 * DAY_S,) * 2)
    key = ("--repo", str(place), "--key", maintenance)
    done = site.ctl("prune", name, *keep, "--max-delete-pct", "100", "--json", *key)
    plan, error = done.documents
    # Made up times look like a clock that jumped: nothing goes before somebody has looked.
    assert (done.code, error["code"]) == (12, "E-REFUSED"), done
    assert "a clock jumped" in done.out
    assert site.ctl("prune", "--apply", plan["id"], *key).code == 0
    left = site.ctl("points", "--json", *key).documents[0]["points"]
    assert [p["id"] for p in left][:3] == ids
    assert len(left) == 6
    assert site.ctl("--repo", str(place), "verify", name, key=True).code == 0


def test_a_full_quota_is_the_hosts_own_matter(site, vault, contents) -> None:
    """Large objects or many empty ones: it ends at the quota, and others still have room."""
    ids, thief = good_ids(site, vault), Thief(site, vault)
    vault.reload('floor = "30d"\nquota = "8 MiB"')
    with pytest.raises(QuotaError, match="quota of host db01"):
        thief.fill(100, bytes(MIB // 2))
    with pytest.raises(QuotaError):  # an empty one takes an inode, and those end, too
        thief.fill(200, b"")
    other = vault.authority.access(vault.authority.client("source", "db02"))
    assert open_receiver(vault.url, other).free_size() == 8 * MIB
    site.start()
    change(site, contents[-1], 4, MIB)
    explained(site.run()["error"], "E-QUOTA", "quota of host db01")
    assert site.end() == 0
    assert_good(site, vault, ids, contents)
