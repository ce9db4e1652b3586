"""What a receiver keeps: codes, hosts, its own certificate; across restarts and processes."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from blocksnapd.errors import (
    CertificateError,
    HostError,
    NotAllowedError,
    NotFoundError,
    PairingError,
    UsageError,
)
from blocksnapd.pki.certificates import LIFETIME_S, NAMES_MAX, make_request, new_key, read_facts
from blocksnapd.pki.codes import read_code
from blocksnapd.pki.registry import CODE_LIFETIME_S, TRIES, Registry
from blocksnapd.runtime.clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def registry(tmp_path, clock):
    return Registry(str(tmp_path / "pki"), clock)


def admitted(registry: Registry, host: str):
    return read_facts(registry.admit(host, make_request(new_key())))


def test_all_of_it_is_for_its_owner_alone(registry, tmp_path):
    registry.open_code("source:db01")
    admitted(registry, "source:db02")
    registry.own_certificate(["backup1"])
    for folder, _, files in os.walk(tmp_path / "pki"):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for file in files:
            assert stat.S_IMODE(os.stat(os.path.join(folder, file)).st_mode) == 0o600


def test_the_authority_is_made_once_whoever_comes_first(tmp_path, clock):
    found = []

    def come() -> None:
        found.append(Registry(str(tmp_path / "pki"), clock).authority.certificate)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_code_is_open_for_its_host_for_minutes(registry, clock):
    code = registry.open_code("source:db01")
    assert registry.code_of("source:db01") == read_code(code)
    with pytest.raises(PairingError, match="for source:db02"):
        registry.code_of("source:db02")
    clock.jump(CODE_LIFETIME_S + 1)
    with pytest.raises(PairingError, match="no code is open"):
        registry.code_of("source:db01")


def test_a_code_has_few_tries_also_after_a_restart(registry, tmp_path, clock):
    registry.open_code("source:db01")
    for _ in range(TRIES):
        again = Registry(str(tmp_path / "pki"), clock)
        again.take_try("source:db01")
    with pytest.raises(PairingError):
        registry.take_try("source:db01")
    with pytest.raises(PairingError):
        registry.code_of("source:db01")


def test_a_code_ends_once_it_let_a_host_in_and_a_new_one_ends_the_old(registry):
    first = registry.open_code("source:db01")
    assert registry.code_of("source:db01") == read_code(first)
    second = registry.open_code("source:db01")
    assert registry.code_of("source:db01") == read_code(second)
    admitted(registry, "source:db01")
    with pytest.raises(PairingError):
        registry.code_of("source:db01")


def test_a_host_is_let_in_by_its_last_pairing_alone(registry):
    first = admitted(registry, "source:db01")
    registry.check("source:db01", first.pairing)
    second = admitted(registry, "source:db01")
    registry.check("source:db01", second.pairing)
    for pairing in (first.pairing, ""):
        with pytest.raises(NotAllowedError, match="not let in any more"):
            registry.check("source:db01", pairing)
    with pytest.raises(NotAllowedError):
        registry.check("source:db02", second.pairing)


def test_a_revoked_host_is_refused_also_by_a_receiver_that_runs(registry, tmp_path, clock):
    facts = admitted(registry, "source:db01")
    Registry(str(tmp_path / "pki"), clock).revoke("source:db01")
    registry.check("source:db01", facts.pairing)  # it has not looked yet
    registry.refresh()
    with pytest.raises(NotAllowedError):
        registry.check("source:db01", facts.pairing)
    with pytest.raises(NotAllowedError):
        registry.renew("source:db01", facts.pairing, make_request(new_key()))
    assert registry.holders()["source:db01"].pairing == ""
    again = admitted(registry, "source:db01")
    registry.check("source:db01", again.pairing)


def test_revoking_ends_an_open_code_and_names_who_is_there(registry):
    admitted(registry, "source:db01")
    registry.open_code("source:db01")
    with pytest.raises(NotFoundError, match="source:db02"):
        registry.revoke("source:db02")
    registry.revoke("source:db01")
    with pytest.raises(PairingError):
        registry.code_of("source:db01")


def test_a_renewed_certificate_is_of_the_same_pairing(registry, clock):
    facts = admitted(registry, "source:db01")
    clock.jump(LIFETIME_S * 0.7)
    again = read_facts(registry.renew("source:db01", facts.pairing, make_request(new_key())))
    assert (again.holder, again.pairing) == ("source:db01", facts.pairing)
    assert again.ends > facts.ends


def test_the_receivers_own_certificate_is_renewed_when_due_and_learns_names(registry, clock):
    first = registry.own_certificate(["backup1"])
    assert registry.own_certificate([]) == first
    assert registry.own_certificate(["backup1"]) == first
    second = registry.own_certificate(["192.0.2.7", "no name"])
    assert read_facts(second).names == ("backup1", "192.0.2.7")
    clock.jump(LIFETIME_S * 0.7)
    third = registry.own_certificate([])
    assert read_facts(third).names == ("backup1", "192.0.2.7")
    assert read_facts(third).ends > read_facts(second).ends
    many = registry.own_certificate([f"n{i}" for i in range(99)])
    assert len(read_facts(many).names) == NAMES_MAX


def test_damaged_files_let_nobody_in(registry, tmp_path):
    facts = admitted(registry, "source:db01")
    registry.open_code("source:db02")
    for damage in (b"", b"{}", b"\xff\xfe", b'{"pairing": 3, "since": 1}', b"[]", b'{"code": 7}'):
        (tmp_path / "pki/holders/source:db01").write_bytes(damage)
        (tmp_path / "pki/codes/source:db02").write_bytes(damage)
        registry.refresh()
        with pytest.raises(NotAllowedError):
            registry.check("source:db01", facts.pairing)
        with pytest.raises(PairingError):
            registry.code_of("source:db02")


def test_a_damaged_authority_is_told(registry, tmp_path, clock):
    (tmp_path / "pki/authority.pem").write_bytes(b"-----BEGIN NOTHING-----")
    with pytest.raises(CertificateError, match="authority"):
        Registry(str(tmp_path / "pki"), clock)


def test_a_directory_that_cannot_be_is_told(tmp_path, clock):
    (tmp_path / "pki").write_bytes(b"a file")
    with pytest.raises(HostError, match="could not make"):
        Registry(str(tmp_path / "pki"), clock)


def test_names_that_lead_elsewhere_are_refused(registry):
    for host in ("../authority.pem", "source:../x", "source:a/b", "source:", ""):
        for call in (registry.open_code, registry.code_of):
            with pytest.raises(UsageError):
                call(host)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_owner_of_the_directory(tmp_path, clock):
    directory = tmp_path / "pki"
    directory.mkdir(mode=0o700)
    os.chown(directory, 65534, 65534)
    registry = Registry(str(directory), clock)
    registry.open_code("source:db01")
    admitted(registry, "source:db02")
    for path in directory.rglob("*"):
        assert path.stat().st_uid == 65534, path
