"""Sealing, binding and authenticating bytes: the only module that names a cipher. Pure.

See FORMAT.md § 3. Keys that seal are fresh for each object, so nonces are counters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from blocksnapd.errors import ChecksumError

ALGORITHMS = {
    "identity": "blake3-keyed-16",
    "digest": "blake3-256",
    "authentication": "blake3-keyed-32",
    "compression": "zstd",
    "aead": "aes-256-gcm",
    "seal": "hpke-x25519-hkdf-sha256-aes-256-gcm",
    "state_sum": "splitmix64-2x64",
    "columns": "planes-zstd",
}
KEY_SIZE = 32
SEAL_SIZE = 80
TAG_SIZE = 16
POINT_TAG_SIZE = 32

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_TAG_CONTEXT = "blocksnap 1 2026 authentication of {}"
_KEYS_CONTEXT = "blocksnap 1 2026 fingerprint of keys"


@dataclass(frozen=True, slots=True)
class Scope:
    """What an object is bound to: taken elsewhere, its bytes are worthless."""

    repository_id: str
    volume_id: str
    name: str

    def binding(self, kind: str) -> bytes:
        """Return the bytes that bind a part of the object."""
        parts = ("blocksnap 1", kind, self.repository_id, self.volume_id, self.name)
        return "\0".join(parts).encode()


def new_key() -> bytes:
    """Return 32 random bytes."""
    return AESGCM.generate_key(8 * KEY_SIZE)


def new_private_key() -> bytes:
    """Return a new X25519 private key, raw."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """Return the public key of a private one, both raw."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def seal_key(key: bytes, public: bytes, info: bytes) -> bytes:
    """Return ``key`` so that only the holder of the private key can open it: 80 bytes."""
    return _SUITE.encrypt(key, X25519PublicKey.from_public_bytes(public), info=info)


def open_key(sealed: bytes, private: bytes, info: bytes, *, what: str) -> bytes:
    """Return the key that ``seal_key`` sealed.

    Raises:
        ChecksumError: it was sealed to another key, bound to something else, or is damaged.
    """
    try:
        return _SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(private), info=info)
    except InvalidTag:
        raise ChecksumError(
            f"the key sealed in {what} does not open",
            effect="Its content cannot be read.",
            hint="It is damaged, belongs elsewhere, or was sealed to another key pair.",
        ) from None


def close_box(key: bytes, number: int, plain: bytes | memoryview, aad: bytes) -> bytes:
    """Return ``plain`` encrypted and authenticated under nonce ``number``; 16 bytes longer."""
    return AESGCM(key).encrypt(number.to_bytes(12, "little"), plain, aad)


def open_box(key: bytes, number: int, box: bytes | memoryview, aad: bytes, *, what: str) -> bytes:
    """Return what ``close_box`` closed.

    Raises:
        ChecksumError: a bit of it, or of what it is bound to, is another.
    """
    try:
        return AESGCM(key).decrypt(number.to_bytes(12, "little"), box, aad)
    except InvalidTag:
        raise damaged(what) from None


def damaged(what: str) -> ChecksumError:
    """Return the error for bytes that are not what was written."""
    return ChecksumError(
        f"{what} is damaged: its bytes are not what was written under this name",
        effect="What it holds cannot be trusted and is not used.",
        hint="Run verify to learn which points and ranges are affected.",
    )


def digest(data: bytes | memoryview) -> str:
    """Return the BLAKE3-256 digest, hex."""
    return blake3(data).hexdigest()


def key_fingerprint(keys: bytes) -> str:
    """Return a digest, hex, that tells nothing of the keys and changes with each bit of them."""
    return blake3(keys, derive_key_context=_KEYS_CONTEXT).hexdigest()


def point_tag(hash_key: bytes, data: bytes | memoryview) -> bytes:
    """Return what only a holder of the hash key can compute of a point's bytes: 32 bytes."""
    return object_tag("points", hash_key, data)


def object_tag(
    kind: Literal["points", "manifests", "collections", "records"],
    hash_key: bytes,
    data: bytes | memoryview,
) -> bytes:
    """Return what only a holder of the hash key can compute of an object's bytes: 32 bytes."""
    key = blake3(hash_key, derive_key_context=_TAG_CONTEXT.format(kind)).digest()
    return blake3(data, key=key).digest()
