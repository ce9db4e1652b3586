"""Key files: what a host needs to write, what restoring needs. Edge (``load``, ``save``).

    source.key        public keys and the hash key: writes points, reads none
    maintenance.key   the private key of metadata too: merges, prunes, collects, reads no content
    restore.key       both private keys; with a passphrase they are sealed by Argon2id

See FORMAT.md § 3 and § 16.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from blocksnapd.errors import (
    BlocksnapError,
    ChecksumError,
    KeyMissingError,
    RepositoryFormatError,
    StoreError,
    UsageError,
)
from blocksnapd.runtime import durable
from blocksnapd.store.repo_file import SIZE_MAX, read_json_map
from blocksnapd.store.seal import (
    KEY_SIZE,
    close_box,
    key_fingerprint,
    new_key,
    new_private_key,
    open_box,
    public_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORMAT = 1
MEMORY_KIB_MAX = 1 << 20
ITERATIONS_MAX = 64
LANES_MAX = 16
_PURPOSES = {
    "source": (
        "Key of a host that writes to a blocksnap repository. It can add restore points and cannot "
        "read any, not even its own. Keep it on the host, readable by root only."
    ),
    "maintenance": (
        "Key of whoever maintains a blocksnap repository: merges, prunes, verifies structure. It "
        "can see which blocks changed when, and can read no content. Readable by root only."
    ),
    "restore": (
        "Key that reads every restore point of a blocksnap repository. Without it nothing can ever "
        "be restored. Keep copies away from the hosts it protects and away from the repository."
    ),
}


@dataclass(frozen=True, slots=True)
class KdfCost:
    """What Argon2id costs for each try of a passphrase."""

    memory_kib: int = 262_144
    iterations: int = 3
    lanes: int = 4


@dataclass(frozen=True, slots=True)
class SourceKey:
    """What writing needs."""

    repository_id: str
    repository_digest: str
    hash_key: bytes
    metadata_public: bytes
    data_public: bytes

    @property
    def fingerprint(self) -> str:
        """What repo.json says of these keys: a bit off, and nobody could open what they seal."""
        return key_fingerprint(self.metadata_public + self.data_public + self.hash_key)


@dataclass(frozen=True, slots=True)
class MaintenanceKey:
    """What maintaining needs: the source's part and the private key of metadata."""

    source: SourceKey
    metadata_private: bytes


@dataclass(frozen=True, slots=True)
class RestoreKey(MaintenanceKey):
    """What reading needs: both private keys."""

    data_private: bytes


def new_keys(repository_id: str) -> RestoreKey:
    """Return all keys of a new repository; ``bind_keys`` makes them its own."""
    metadata, data = new_private_key(), new_private_key()
    source = SourceKey(repository_id, "", new_key(), public_key(metadata), public_key(data))
    return RestoreKey(source, metadata, data)


def bind_keys(keys: RestoreKey, repository_digest: str) -> RestoreKey:
    """Return ``keys`` with the digest of the ``repo.json`` that has their fingerprint."""
    return replace(keys, source=replace(keys.source, repository_digest=repository_digest))


def pack_source(key: SourceKey) -> bytes:
    """Return the bytes of ``source.key``."""
    return _json(_clear("source", key) | {"hash_key": key.hash_key.hex()})


def pack_maintenance(key: MaintenanceKey) -> bytes:
    """Return the bytes of ``maintenance.key``."""
    secrets_ = {
        "hash_key": key.source.hash_key.hex(),
        "metadata_private": key.metadata_private.hex(),
    }
    return _json(_clear("maintenance", key.source) | secrets_)


def pack_restore(
    key: RestoreKey, passphrase: str | None = None, cost: KdfCost | None = None
) -> bytes:
    """Return the bytes of ``restore.key``, sealed if there is a passphrase; may take seconds."""
    value, source = _clear("restore", key.source), key.source
    if passphrase is None:
        return _json(
            value
            | {
                "hash_key": source.hash_key.hex(),
                "metadata_private": key.metadata_private.hex(),
                "data_private": key.data_private.hex(),
            }
        )
    cost, salt = cost or KdfCost(), secrets.token_bytes(16)
    wrapping = _derive(passphrase, salt, cost)
    secret = source.hash_key + key.metadata_private + key.data_private
    box = close_box(wrapping, 0, secret, _sealed_aad(source.repository_id))
    sealed = {
        "kdf": "argon2id",
        "salt": salt.hex(),
        "iterations": cost.iterations,
        "lanes": cost.lanes,
        "memory_kib": cost.memory_kib,
        "box": box.hex(),
    }
    return _json(value | {"sealed": sealed})


def is_sealed(data: bytes) -> bool:
    """Return whether reading this key file takes a passphrase."""
    return "sealed" in read_json_map(data, "the key file")


def unpack_source(data: bytes) -> SourceKey:
    """Return what a ``source.key`` holds; another key file without passphrase serves too.

    Raises:
        RepositoryFormatError: it is neither. KeyMissingError: it is sealed by a passphrase.
    """
    value = read_json_map(data, "the key file")
    kind = _kind(value)
    if kind == "restore" and "sealed" in value:
        raise KeyMissingError("a sealed restore.key cannot write", hint="Name the source.key.")
    return _source(value, _bytes(value, "hash_key"))


def unpack_restore(data: bytes, passphrase: str | None = None) -> RestoreKey:
    """Return what a ``restore.key`` holds; may take seconds.

    Raises:
        RepositoryFormatError: it is no such file.
        KeyMissingError: it is another key, or the passphrase is missing or wrong.
    """
    value = read_json_map(data, "the key file")
    if (kind := _kind(value)) != "restore":
        raise KeyMissingError(
            f"this is a {kind}.key: it cannot read the content of points",
            hint="Name the restore.key that init made, from where it is kept.",
        )
    if "sealed" in value:
        secret = _open_sealed(value, passphrase)
        parts = [secret[at : at + KEY_SIZE] for at in range(0, 3 * KEY_SIZE, KEY_SIZE)]
    else:
        fields = ("hash_key", "metadata_private", "data_private")
        parts = [_bytes(value, field) for field in fields]
    key = RestoreKey(_source(value, parts[0]), parts[1], parts[2])
    _check_pair(key.metadata_private, key.source.metadata_public, "restore")
    _check_pair(key.data_private, key.source.data_public, "restore")
    return key


def unpack_maintenance(data: bytes, passphrase: str | None = None) -> MaintenanceKey:
    """Return what a ``maintenance.key`` holds; a ``restore.key`` serves too and reads content.

    Raises:
        RepositoryFormatError: it is neither. KeyMissingError: as ``unpack_restore``.
    """
    value = read_json_map(data, "the key file")
    if _kind(value) != "maintenance":
        return unpack_restore(data, passphrase)
    key = MaintenanceKey(
        _source(value, _bytes(value, "hash_key")), _bytes(value, "metadata_private")
    )
    _check_pair(key.metadata_private, key.source.metadata_public, "maintenance")
    return key


def load_source(path: str) -> SourceKey:
    """Read a ``source.key``; raises as ``unpack_source``, and KeyMissingError without the file."""
    with _told(path):
        return unpack_source(_read(path))


def load_restore(path: str, passphrase: Callable[[], str] | str | None = None) -> RestoreKey:
    """Read a ``restore.key``; a callable ``passphrase`` is asked only if the file needs one."""
    with _told(path):
        data = _read(path)
        if callable(passphrase):
            passphrase = passphrase() if is_sealed(data) else None
        return unpack_restore(data, passphrase)


def load_maintenance(
    path: str, passphrase: Callable[[], str] | str | None = None
) -> MaintenanceKey:
    """Read a ``maintenance.key`` or a ``restore.key``; ``passphrase`` as for ``load_restore``."""
    with _told(path):
        data = _read(path)
        if callable(passphrase):
            passphrase = passphrase() if is_sealed(data) else None
        return unpack_maintenance(data, passphrase)


def save(path: str, data: bytes) -> None:
    """Create a key file, durable, readable by its owner only.

    Raises:
        UsageError: there is a file of that name; it was not touched.
        StoreError: it could not be written.
    """
    try:
        durable.make_dirs(os.path.dirname(os.path.abspath(path)))
        durable.create_only(path, [data], mode=0o600)
    except FileExistsError:
        raise UsageError(
            f"{path} exists and was not touched",
            effect="No repository was made.",
            hint="If no repository needs it any more, move it away; it cannot be made again.",
        ) from None
    except OSError as error:
        raise StoreError(
            f"the key file {path} could not be written: {error.strerror}",
            effect="No repository was made.",
            hint="Make the directory writable, or choose another with --keys.",
        ) from error


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Say of every error what it means and what to do, where it does not itself."""
    try:
        yield
    except BlocksnapError as error:
        error.effect = error.effect or "Nothing was read or written."
        error.hint = error.hint or f"Use another copy of {path}, the file that init made."
        raise


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(SIZE_MAX + 1)
    except OSError as error:
        raise KeyMissingError(
            f"the key file {path} cannot be read: {error.strerror}",
            effect="Nothing was read or written.",
            hint="Bring the key file that init made, or correct its path.",
        ) from error


def _check_pair(private: bytes, public: bytes, kind: str) -> None:
    if public_key(private) != public:
        raise RepositoryFormatError(
            f"{kind}.key is damaged: its private keys are not those of its public keys",
            hint="Use another copy of it.",
        )


def _open_sealed(value: dict[str, Any], passphrase: str | None) -> bytes:
    sealed = value["sealed"]
    if not isinstance(sealed, dict) or sealed.get("kdf") != "argon2id":
        raise RepositoryFormatError("restore.key is sealed in a way this program does not know")
    if passphrase is None:
        raise KeyMissingError("restore.key is sealed by a passphrase", hint="Give the passphrase.")
    cost = KdfCost(
        _number(sealed, "memory_kib", MEMORY_KIB_MAX),
        _number(sealed, "iterations", ITERATIONS_MAX),
        _number(sealed, "lanes", LANES_MAX),
    )
    wrapping = _derive(passphrase, _bytes(sealed, "salt", 16), cost)
    box = _bytes(sealed, "box", 3 * KEY_SIZE + 16)
    try:
        aad = _sealed_aad(str(value.get("repository_id")))
        return open_box(wrapping, 0, box, aad, what="restore.key")
    except ChecksumError:
        raise KeyMissingError(
            "the passphrase does not open restore.key",
            hint="Try again; if it is surely right, the file is damaged: use another copy.",
        ) from None


def _derive(passphrase: str, salt: bytes, cost: KdfCost) -> bytes:
    try:
        kdf = Argon2id(
            salt=salt,
            length=KEY_SIZE,
            iterations=cost.iterations,
            lanes=cost.lanes,
            memory_cost=cost.memory_kib,
        )
        return kdf.derive(passphrase.encode())
    except ValueError as error:
        raise RepositoryFormatError(f"restore.key has a cost that cannot be: {error}") from error


def _sealed_aad(repository_id: str) -> bytes:
    return b"blocksnap 1 restore.key " + repository_id.encode()


def _clear(kind: Literal["source", "maintenance", "restore"], key: SourceKey) -> dict[str, Any]:
    return {
        "purpose": _PURPOSES[kind],
        "format": FORMAT,
        "kind": kind,
        "repository_id": key.repository_id,
        "repository_digest": key.repository_digest,
        "metadata_public": key.metadata_public.hex(),
        "data_public": key.data_public.hex(),
    }


def _source(value: dict[str, Any], hash_key: bytes) -> SourceKey:
    return SourceKey(
        repository_id=_bytes(value, "repository_id", 16).hex(),
        repository_digest=_bytes(value, "repository_digest").hex(),
        hash_key=hash_key,
        metadata_public=_bytes(value, "metadata_public"),
        data_public=_bytes(value, "data_public"),
    )


def _kind(value: dict[str, Any]) -> str:
    if value.get("format") != FORMAT or value.get("kind") not in list(_PURPOSES):
        raise RepositoryFormatError(
            "the key file is not a blocksnap key of format 1",
            hint="Name the source.key, maintenance.key or restore.key that init made.",
        )
    return str(value["kind"])


def _bytes(value: dict[str, Any], field: str, size: int = KEY_SIZE) -> bytes:
    text = value.get(field)
    try:
        data = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        data = b""
    if len(data) != size:
        raise RepositoryFormatError(f"the key file's {field} is not {2 * size} hex digits")
    return data


def _number(value: dict[str, Any], field: str, most: int) -> int:
    number = value.get(field)
    if not isinstance(number, int) or not 1 <= number <= most:
        raise RepositoryFormatError(f"the key file's {field} is not a number from 1 to {most}")
    return number


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
