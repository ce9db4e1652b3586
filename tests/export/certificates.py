"""An authority, a server's certificate and a client's, made for one test. Edge."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from blocksnapd.export.stream import tls_context

if TYPE_CHECKING:
    from pathlib import Path

_PEM = serialization.Encoding.PEM


class Certificates:
    """Files under the names that libnbd and qemu look for in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._now = datetime.now(UTC)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("blocksnap test authority")
        authority = self._signed(self._name, self._key, is_authority=True)
        (folder / "ca-cert.pem").write_bytes(authority.public_bytes(_PEM))
        for who, usage in (
            ("server", ExtendedKeyUsageOID.SERVER_AUTH),
            ("client", ExtendedKeyUsageOID.CLIENT_AUTH),
        ):
            key = ec.generate_private_key(ec.SECP256R1())
            found = self._signed(_name(who), key, usage=usage)
            (folder / f"{who}-cert.pem").write_bytes(found.public_bytes(_PEM))
            (folder / f"{who}-key.pem").write_bytes(
                key.private_bytes(
                    _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        self.authority = str(folder / "ca-cert.pem")
        self.certificate = str(folder / "server-cert.pem")
        self.key = str(folder / "server-key.pem")

    def server_context(self) -> ssl.SSLContext:
        """Return what a server needs that lets in only who has a certificate of the authority."""
        return tls_context(self.certificate, self.key, self.authority)

    def client_context(self, *, own: bool = True) -> ssl.SSLContext:
        """Return what a client needs; without ``own`` it shows no certificate."""
        context = ssl.create_default_context(cafile=self.authority)
        if own:
            context.load_cert_chain(self.folder / "client-cert.pem", self.folder / "client-key.pem")
        return context

    def _signed(self, name, key, *, usage=None, is_authority=False) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - timedelta(days=1))
            .not_valid_after(self._now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(_key_usage(is_authority=is_authority), critical=True)
        )
        if usage is not None:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=is_authority,
        crl_sign=is_authority, encipher_only=False, decipher_only=False,
    )  # fmt: skip
