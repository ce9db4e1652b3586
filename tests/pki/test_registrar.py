"""Pairing as the receiver sees it: wrong codes, replays, strangers, and one right try."""

from __future__ import annotations

import threading

import pytest

from blocksnapd.errors import BusyError, CertificateError, FormatError, PairingError
from blocksnapd.pki.certificates import check_signed, make_request, new_key, read_facts
from blocksnapd.pki.codes import read_code
from blocksnapd.pki.exchange import Asking
from blocksnapd.pki.registrar import EXCHANGE_S_MAX, EXCHANGES_MAX, Registrar
from blocksnapd.pki.registry import CODE_LIFETIME_S, TRIES, Registry
from blocksnapd.runtime.clock import ManualClock

WRONG = "00000000"


class Bench:
    """A receiver, and sources that try their luck."""

    def __init__(self, folder) -> None:
        self.clock = ManualClock()
        self.registry = Registry(str(folder / "pki"), self.clock)
        self.reached: list[str] = []
        self.registrar = Registrar(self.registry, self.clock, self.reached.append)
        self.key = new_key()
        self.request = make_request(self.key)

    def open(self, host: str = "source:db01") -> str:
        return read_code(self.registry.open_code(host))

    def begun(self, code: str, host: str = "source:db01"):
        asking = Asking(code, host)
        name, answer = self.registrar.begin(host, asking.message)
        return name, asking.proofs(answer)

    def pair(self, code: str, host: str = "source:db01"):
        name, proofs = self.begun(code, host)
        proof = proofs.make("source", self.request, b"backup1")
        issued = self.registrar.finish(name, self.request, "backup1", proof)
        proofs.check(issued.proof, "receiver", issued.certificate, issued.authority)
        return issued


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_the_right_code_lets_the_host_in_once(bench):
    code = bench.open()
    issued = bench.pair(code)
    check_signed(issued.certificate, issued.authority, bench.key)
    facts = read_facts(issued.certificate)
    assert facts.holder == "source:db01"
    bench.registry.check("source:db01", facts.pairing)
    assert bench.reached == ["backup1"]
    with pytest.raises(PairingError, match="no code is open"):
        bench.pair(code)


def test_wrong_codes_use_up_the_tries_and_then_the_right_one_is_too_late(bench):
    code = bench.open()
    for _ in range(TRIES):
        with pytest.raises(PairingError, match="code was wrong"):
            bench.pair(WRONG)
    with pytest.raises(PairingError, match="no code is open"):
        bench.pair(code)
    assert bench.registry.holders() == {}


def test_after_a_slip_of_the_finger_the_right_code_still_works(bench):
    code = bench.open()
    with pytest.raises(PairingError):
        bench.pair(WRONG)
    assert bench.pair(code)


def test_many_exchanges_begun_at_once_are_not_more_tries(bench):
    """Who begins many and finishes them together gets as many guesses as anybody."""
    bench.open()
    begun = [bench.begun(WRONG) for _ in range(EXCHANGES_MAX)]
    said: list[str] = []

    def finish(name, proofs) -> None:
        proof = proofs.make("source", bench.request, b"backup1")
        try:
            bench.registrar.finish(name, bench.request, "backup1", proof)
        except PairingError as error:
            said.append(error.message)

    threads = [threading.Thread(target=finish, args=pair) for pair in begun]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == EXCHANGES_MAX
    assert sum("code was wrong" in message for message in said) == TRIES


def test_a_replayed_finish_is_refused(bench):
    code = bench.open()
    name, proofs = bench.begun(code)
    proof = proofs.make("source", bench.request, b"backup1")
    bench.registrar.finish(name, bench.request, "backup1", proof)
    bench.open()
    with pytest.raises(PairingError, match="not under way"):
        bench.registrar.finish(name, bench.request, "backup1", proof)


def test_a_recorded_proof_is_worth_nothing_in_another_exchange(bench):
    code = bench.open()
    first, proofs = bench.begun(code)
    second, _ = bench.begun(code)
    proof = proofs.make("source", bench.request, b"backup1")
    with pytest.raises(PairingError, match="code was wrong"):
        bench.registrar.finish(second, bench.request, "backup1", proof)
    assert bench.registrar.finish(first, bench.request, "backup1", proof)


def test_a_wrong_proof_ends_its_exchange(bench):
    code = bench.open()
    name, proofs = bench.begun(code)
    with pytest.raises(PairingError, match="code was wrong"):
        bench.registrar.finish(name, bench.request, "backup1", bytes(32))
    proof = proofs.make("source", bench.request, b"backup1")
    with pytest.raises(PairingError, match="not under way"):
        bench.registrar.finish(name, bench.request, "backup1", proof)


async def test_an_exchange_and_a_code_end_with_time(bench):
    code = bench.open()
    name, proofs = bench.begun(code)
    proof = proofs.make("source", bench.request, b"backup1")
    await bench.clock.advance(EXCHANGE_S_MAX + 1)
    with pytest.raises(PairingError, match="not under way"):
        bench.registrar.finish(name, bench.request, "backup1", proof)
    name, proofs = bench.begun(code)
    proof = proofs.make("source", bench.request, b"backup1")
    bench.clock.jump(CODE_LIFETIME_S)  # the exchange is young, the code is not
    with pytest.raises(PairingError, match="no code is open"):
        bench.registrar.finish(name, bench.request, "backup1", proof)


def test_an_exchange_begun_with_an_older_code_is_over_once_a_new_one_is_open(bench):
    name, proofs = bench.begun(bench.open())
    proof = proofs.make("source", bench.request, b"backup1")
    bench.open()
    with pytest.raises(PairingError, match="not under way"):
        bench.registrar.finish(name, bench.request, "backup1", proof)


async def test_strangers_cannot_fill_the_receiver(bench):
    code = bench.open()
    for _ in range(EXCHANGES_MAX):
        bench.begun(WRONG)
    with pytest.raises(BusyError, match="too many"):
        bench.begun(code)
    await bench.clock.advance(EXCHANGE_S_MAX + 1)
    assert bench.pair(code)


def test_garbage_uses_up_no_try(bench):
    code = bench.open()
    for message in (b"", b"A" * 33, b"A" + bytes(32), b"B" * 33, b"A" * 5000):
        with pytest.raises(FormatError):
            bench.registrar.begin("source:db01", message)
    assert bench.pair(code)


def test_a_request_that_is_none_lets_nobody_in(bench):
    name, proofs = bench.begun(bench.open())
    proof = proofs.make("source", b"nonsense", b"backup1")
    with pytest.raises(CertificateError):
        bench.registrar.finish(name, b"nonsense", "backup1", proof)
    assert bench.registry.holders() == {}
