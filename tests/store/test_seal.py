"""Sealing against an HPKE written here from RFC 9180; binding; tags."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from blocksnapd.errors import ChecksumError
from blocksnapd.store.seal import (
    Scope,
    close_box,
    digest,
    new_key,
    new_private_key,
    open_box,
    open_key,
    point_tag,
    public_key,
    seal_key,
)

PRIVATE = new_private_key()
PUBLIC = public_key(PRIVATE)
KEM_ID = b"KEM" + (0x0020).to_bytes(2, "big")
SUITE_ID = b"HPKE" + b"".join(n.to_bytes(2, "big") for n in (0x0020, 0x0001, 0x0002))


def extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    mac = hmac.HMAC(salt or bytes(32), hashes.SHA256())
    mac.update(b"HPKE-v1" + suite + label + secret)
    return mac.finalize()


def expand(suite: bytes, key: bytes, label: bytes, info: bytes, size: int) -> bytes:
    labelled = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return HKDFExpand(hashes.SHA256(), size, labelled).derive(key)


def rfc_9180_open(sealed: bytes, private: bytes, info: bytes) -> bytes:
    """SetupBaseR and Open, sequence number 0, empty aad."""
    enc, box = sealed[:32], sealed[32:]
    key = X25519PrivateKey.from_private_bytes(private)
    shared = key.exchange(X25519PublicKey.from_public_bytes(enc))
    context = enc + key.public_key().public_bytes_raw()
    eae = extract(KEM_ID, b"", b"eae_prk", shared)
    secret = expand(KEM_ID, eae, b"shared_secret", context, 32)
    schedule = b"\0" + b"".join(
        extract(SUITE_ID, b"", label, value)
        for label, value in ((b"psk_id_hash", b""), (b"info_hash", info))
    )
    prk = extract(SUITE_ID, secret, b"secret", b"")
    aead = expand(SUITE_ID, prk, b"key", schedule, 32)
    nonce = expand(SUITE_ID, prk, b"base_nonce", schedule, 12)
    return AESGCM(aead).decrypt(nonce, box, b"")


def test_a_sealed_key_is_what_rfc_9180_says():
    key = new_key()
    sealed = seal_key(key, PUBLIC, b"bound to this")
    assert len(sealed) == 80
    assert rfc_9180_open(sealed, PRIVATE, b"bound to this") == key
    assert open_key(sealed, PRIVATE, b"bound to this", what="x") == key


def test_a_sealed_key_opens_for_its_holder_and_place_only():
    sealed = seal_key(new_key(), PUBLIC, b"here")
    for data, private, info in [
        (sealed, new_private_key(), b"here"),
        (sealed, PRIVATE, b"there"),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), PRIVATE, b"here"),
        (bytes(80), PRIVATE, b"here"),
        (b"", PRIVATE, b"here"),
    ]:
        with pytest.raises(ChecksumError, match="the thing"):
            open_key(data, private, info, what="the thing")


def test_a_box_opens_with_its_number_key_and_aad_only():
    key = new_key()
    box = close_box(key, 3, b"content", b"aad")
    assert open_box(key, 3, box, b"aad", what="x") == b"content"
    for args in [(key, 4, box, b"aad"), (key, 3, box, b"other"), (new_key(), 3, box, b"aad"),
                 (key, 3, box[:-1], b"aad"), (key, 3, b"", b"aad")]:  # fmt: skip
        with pytest.raises(ChecksumError, match="the thing is damaged"):
            open_box(*args, what="the thing")


def test_no_two_scopes_or_kinds_share_a_binding():
    scopes = [
        Scope("r", "v", "n"),
        Scope("r", "v", "m"),
        Scope("r", "w", "n"),
        Scope("s", "v", "n"),
    ]
    bindings = {scope.binding(kind) for scope in scopes for kind in ("point", "frame")}
    assert len(bindings) == 8


def test_a_tag_needs_the_key_and_covers_every_byte():
    tag = point_tag(bytes(32), b"data")
    assert len(tag) == 32
    assert tag != point_tag(b"\1" + bytes(31), b"data")
    assert tag != point_tag(bytes(32), b"datb")
    assert tag.hex() != digest(b"data")
