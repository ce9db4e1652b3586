"""An authority and what it signs, made for one test: receivers, sources, readers."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from blocksnapd.model import Access
from blocksnapd.receive.caller import Caller, identity_uri

if TYPE_CHECKING:
    from pathlib import Path

_PEM = serialization.Encoding.PEM


class Signed(NamedTuple):
    """Paths of a certificate and its key."""

    cert: str
    key: str


class Authority:
    """Signs into ``folder``; ``ca`` is its own certificate."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._sign(self._name, self._key, is_authority=True)
        self.ca = str(folder / f"{name}.crt")
        (folder / f"{name}.crt").write_bytes(made.public_bytes(_PEM))

    def receiver(self, name: str = "receiver", *, address: str = "127.0.0.1") -> Signed:
        """Return what a receiver at ``address`` of this host shows."""
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(address))]
        return self._issue(name, names, ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, role: str, host: str, *, days: float = 2.0) -> Signed:
        """Return what somebody shows who speaks for ``host``."""
        uri = identity_uri(Caller(host, role))  # type: ignore[arg-type]
        return self.named(f"{role}-{host}", [uri], days=days)

    def named(self, file: str, uris: list[str], *, days: float = 2.0) -> Signed:
        """Return a client's certificate that holds these URIs."""
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        return self._issue(file, names, ExtendedKeyUsageOID.CLIENT_AUTH, days=days)

    def access(self, signed: Signed) -> Access:
        """Return it as a target names it."""
        return Access(ca=self.ca, cert=signed.cert, key=signed.key)

    def _issue(self, file, names, usage, *, days: float = 2.0) -> Signed:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, file)])
        made = self._sign(subject, key, names=names, usage=usage, days=days)
        cert_path, key_path = self._folder / f"{file}.crt", self._folder / f"{file}.key"
        cert_path.write_bytes(made.public_bytes(_PEM))
        key_path.write_bytes(
            key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return Signed(str(cert_path), str(key_path))

    def _sign(self, name, key, *, names=(), usage=None, days=2.0, is_authority=False):
        end = datetime.now(UTC) + timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(end, datetime.now(UTC)) - timedelta(days=1))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())
