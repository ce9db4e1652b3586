"""Keys, requests and certificates as PEM, and the authority that signs them. Pure.

A receiver is its own authority: it signs itself one certificate for TLS servers, and each source
one for TLS clients, so that no source can pass for the receiver. A key and its certificate are one
text and so one file: they are replaced together or not at all.

Whom a certificate is for, its holder, is a role and a host, ``source:db01``: one URI among its
names, ``blocksnap:source:db01``. The subject's serialNumber is the pairing that let the holder in.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from blocksnapd.errors import CertificateError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LIFETIME_S: Final = 90 * 86_400
AUTHORITY_LIFETIME_S: Final = 30 * 365 * 86_400
BACKDATED_S: Final = 86_400  # for a peer whose clock is behind
RENEWED_LEFT: Final = 1 / 3  # of its lifetime; what remains is for receivers that are down
REQUEST_SIZE_MAX: Final = 8192
NAMES_MAX: Final = 32
HOLDER: Final = re.compile(r"(source|reader|maintainer):([A-Za-z0-9][A-Za-z0-9._-]{0,62})")
SCHEME: Final = "blocksnap:"
_DNS = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")
_PEM = serialization.Encoding.PEM
_BROKEN = (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.ExtensionNotFound)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says; times are seconds since the epoch."""

    holder: str
    pairing: str
    begins: float
    ends: float
    names: tuple[str, ...]

    def is_due(self, now: float) -> bool:
        """Return whether it is time for a new one."""
        lifetime = self.ends - self.begins - BACKDATED_S
        return self.ends - now < lifetime * RENEWED_LEFT


def check_holder(holder: str) -> str:
    """Return ``holder`` if it is a role and the name of a host.

    Raises:
        UsageError: it is not.
    """
    if not HOLDER.fullmatch(holder):
        raise UsageError(
            f"{holder.partition(':')[2][:80]!r} cannot be the name of a host",
            effect="Nothing was done.",
            hint="Letters, digits, '.', '-' and '_', at most 63 of them.",
        )
    return holder


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the key as PEM, not encrypted."""
    plain = serialization.NoEncryption()
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, plain)


def make_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a request for a certificate; who it will be for is up to whoever signs."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(_PEM)


def read_facts(pem: bytes) -> Facts:
    """Return what the first certificate in ``pem`` says.

    Raises:
        CertificateError: there is none.
    """
    try:
        found = x509.load_pem_x509_certificate(pem)
        return Facts(
            next((u.removeprefix(SCHEME) for u in _uris_in(found)), ""),
            _attribute(found, NameOID.SERIAL_NUMBER),
            found.not_valid_before_utc.timestamp(),
            found.not_valid_after_utc.timestamp(),
            _names_in(found),
        )
    except _BROKEN as error:
        raise _unreadable("a certificate") from error


def certificate_of(pem: bytes) -> bytes:
    """Return the first certificate in ``pem`` alone, without the key that stands beside it.

    Raises:
        CertificateError: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(_PEM)
    except _BROKEN as error:
        raise _unreadable("a certificate") from error


def check_signed(certificate: bytes, authority: bytes, key: ec.EllipticCurvePrivateKey) -> None:
    """Make sure that ``authority`` signed ``certificate``, and for this ``key``.

    Raises:
        CertificateError: it did not.
    """
    try:
        found = x509.load_pem_x509_certificate(certificate)
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    except _BROKEN as error:
        raise _unreadable("a certificate that it signed") from error
    if found.public_key() != key.public_key():
        raise _unreadable("a certificate for the key that asked for it")


class Authority:
    """A receiver's own authority."""

    def __init__(self, pem: bytes) -> None:
        """Take the private key and certificate that ``make`` returned.

        Raises:
            CertificateError: they are not there.
        """
        self.pem = pem
        try:
            key = serialization.load_pem_private_key(pem, None)
            self._certificate = x509.load_pem_x509_certificate(pem)
        except _BROKEN as error:
            raise _unreadable("an authority's key and certificate") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise _unreadable("a key of the kind that this program makes")
        self._key = key

    @classmethod
    def make(cls, now: float) -> Authority:
        """Make a new authority."""
        key = new_key()
        name = _name("blocksnap receiver's authority")
        builder = _builder(name, name, key.public_key(), now, AUTHORITY_LIFETIME_S)
        builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        signed = builder.sign(key, hashes.SHA256())
        return cls(key_pem(key) + signed.public_bytes(_PEM))

    @property
    def certificate(self) -> bytes:
        """Its certificate, which whoever trusts it keeps."""
        return self._certificate.public_bytes(_PEM)

    def sign(self, request: bytes, holder: str, pairing: str, now: float) -> bytes:
        """Return a certificate of ``holder`` for the key in ``request``.

        Raises:
            CertificateError: it is not a request, or not signed with the key it names.
        """
        names = [x509.UniformResourceIdentifier(SCHEME + holder)]
        name, usage = _name(holder, pairing), ExtendedKeyUsageOID.CLIENT_AUTH
        return self._sign(_requested_key(request), name, usage, names, now)

    def make_receiver(self, names: Iterable[str], now: float) -> bytes:
        """Return a new key and certificate for a receiver that is reached as ``names``."""
        key = new_key()
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        name = _name("blocksnap receiver")
        found = list(map(_general_name, names))
        return key_pem(key) + self._sign(key.public_key(), name, usage, found, now)

    def _sign(
        self, key: ec.EllipticCurvePublicKey, name: x509.Name, usage: x509.ObjectIdentifier,
        names: Sequence[x509.GeneralName], now: float,
    ) -> bytes:  # fmt: skip
        issuer = self._certificate.subject
        add = (
            (x509.BasicConstraints(False, None), True),
            (_key_usage(signs_certificates=False), True),
            (x509.ExtendedKeyUsage([usage]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
            (x509.SubjectAlternativeName(names), False),
        )
        builder = _builder(name, issuer, key, now, LIFETIME_S)
        for extension, is_critical in add:
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)


def is_server_name(name: str) -> bool:
    """Return whether a receiver can be reached as ``name``: a DNS name or an address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return len(name) <= 253 and _DNS.fullmatch(name) is not None
    return True


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, lifetime_s: int
) -> x509.CertificateBuilder:
    begins = datetime.fromtimestamp(int(now), UTC) - timedelta(seconds=BACKDATED_S)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(seconds=BACKDATED_S + lifetime_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _requested_key(request: bytes) -> ec.EllipticCurvePublicKey:
    try:
        if len(request) > REQUEST_SIZE_MAX:
            raise ValueError("larger than any request of this program")
        found = x509.load_pem_x509_csr(request)
        key = found.public_key()
        if not found.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("not signed with the key it names, or with a foreign kind of key")
        if not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("a key on another curve")
    except _BROKEN as error:
        raise _unreadable("a request for a certificate") from error
    return key


def _name(text: str, serial: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, text)]
    if serial:
        parts.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, serial))
    return x509.Name(parts)


def _attribute(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    found = certificate.subject.get_attributes_for_oid(oid)
    return str(found[0].value) if found else ""


def _alternative(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


def _uris_in(certificate: x509.Certificate) -> list[str]:
    return _alternative(certificate).get_values_for_type(x509.UniformResourceIdentifier)


def _names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    found = _alternative(certificate)
    names = found.get_values_for_type(x509.DNSName)
    return (*names, *map(str, found.get_values_for_type(x509.IPAddress)))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=signs_certificates, crl_sign=signs_certificates, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _unreadable(what: str) -> CertificateError:
    return CertificateError(
        f"what was given is not {what}",
        effect="Nothing was changed; what was shipped is untouched.",
        hint="Pair the two hosts again: blocksnapd pair-code on the receiver shows how.",
    )
