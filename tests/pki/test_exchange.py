"""Two who know the code agree; everybody else learns nothing and is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import FormatError, PairingError
from blocksnapd.pki.exchange import MESSAGE_SIZE, Answering, Asking


def test_the_same_code_gives_the_same_proofs():
    asking = Asking("K7QM2XPA", "db01")
    answering = Answering("K7QM2XPA", "db01", asking.message)
    ours = asking.proofs(answering.message)
    answering.proofs.check(ours.make("source", b"request", b"name"), "source", b"request", b"name")
    ours.check(answering.proofs.make("receiver", b"a", b"b"), "receiver", b"a", b"b")


@pytest.mark.parametrize(("code", "host"), [("K7QM2XPB", "db01"), ("K7QM2XPA", "db02")])
def test_another_code_or_host_is_noticed(code, host):
    asking = Asking(code, host)
    answering = Answering("K7QM2XPA", "db01", asking.message)
    proof = asking.proofs(answering.message).make("source", b"request")
    with pytest.raises(PairingError, match="code was wrong"):
        answering.proofs.check(proof, "source", b"request")


def test_a_proof_covers_each_part_and_its_side():
    asking = Asking("K7QM2XPA", "db01")
    answering = Answering("K7QM2XPA", "db01", asking.message)
    proof = asking.proofs(answering.message).make("source", b"request", b"name")
    for side, parts in (
        ("source", (b"requestn", b"ame")),
        ("source", (b"request",)),
        ("source", (b"Request", b"name")),
        ("receiver", (b"request", b"name")),
    ):
        with pytest.raises(PairingError):
            answering.proofs.check(proof, side, *parts)


def test_a_man_in_the_middle_without_the_code_fails_on_both_sides():
    """He runs one exchange with each; what he learns from one does not help in the other."""
    source = Asking("K7QM2XPA", "db01")
    towards_source = Answering("00000000", "db01", source.message)
    towards_receiver = Asking("00000000", "db01")
    receiver = Answering("K7QM2XPA", "db01", towards_receiver.message)
    theirs = source.proofs(towards_source.message)
    with pytest.raises(PairingError):
        receiver.proofs.check(theirs.make("source", b"request"), "source", b"request")
    forged = towards_receiver.proofs(receiver.message)
    with pytest.raises(PairingError):
        receiver.proofs.check(forged.make("source", b"request"), "source", b"request")
    with pytest.raises(PairingError):
        theirs.check(towards_source.proofs.make("receiver", b"ca"), "receiver", b"ca")


def test_who_passes_messages_on_can_change_nothing_in_them():
    source = Asking("K7QM2XPA", "db01")
    receiver = Answering("K7QM2XPA", "db01", source.message)
    theirs = source.proofs(receiver.message)
    proof = theirs.make("source", b"request")
    with pytest.raises(PairingError):
        receiver.proofs.check(proof, "source", b"another request")
    answer = receiver.proofs.make("receiver", b"certificate", b"authority")
    with pytest.raises(PairingError):
        theirs.check(answer, "receiver", b"certificate", b"another authority")


def test_messages_differ_each_time():
    assert len({Asking("K7QM2XPA", "db01").message for _ in range(20)}) == 20


def test_a_message_sent_back_is_refused():
    asking = Asking("K7QM2XPA", "db01")
    with pytest.raises(FormatError):
        asking.proofs(asking.message)


@pytest.mark.parametrize(
    ("number", "why"), [(0, "not in the right group"), (1, "Zero"), (2, "not on curve")]
)
def test_what_is_no_point_of_the_group_is_refused(number, why):
    """Who sends such a one would know the key without the code. ``number``: its y."""
    with pytest.raises(FormatError) as told:
        Asking("K7QM2XPA", "db01").proofs(b"B" + number.to_bytes(32, "little"))
    assert why in str(told.value.__cause__)


@settings(deadline=None)
@given(st.binary(max_size=2 * MESSAGE_SIZE) | st.binary(min_size=32, max_size=32))
def test_any_bytes_give_a_value_or_an_error_of_ours(data):
    for prefix in (b"", b"A", b"B"):
        for take in (
            lambda m: Answering("K7QM2XPA", "db01", m),
            lambda m: Asking("K7QM2XPA", "db01").proofs(m),
        ):
            try:
                take(prefix + data)
            except FormatError:
                continue
