"""TLS contexts that follow their certificates: a renewed one counts for the next connection. Edge.

Connections that are open keep what they began with, so no transfer is dropped. TLS 1.3 only.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from typing import TYPE_CHECKING, Any

from blocksnapd.errors import CertificateError, NotAllowedError
from blocksnapd.pki.certificates import HOLDER, SCHEME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocksnapd.model import Access


class ServerTls:
    """A receiver's ``context``; what is handed to ``use`` last is what the next client sees.

    A client may come without a certificate, to pair; what it may do then is up to the caller. One
    that shows a certificate must show one that ``authority`` signed.
    """

    def __init__(self, authority: bytes, own: bytes) -> None:
        self._authority = authority.decode()
        self._current = self._made(own)
        self.context = self._made(own)
        self.context.sni_callback = self._choose  # also called where a client names no server

    def use(self, own: bytes) -> None:
        """Show this key and certificate from now on. Blocks for a moment.

        Raises:
            CertificateError: they do not belong together.
        """
        self._current = self._made(own)

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _first: ssl.SSLContext
    ) -> None:
        connection.context = self._current

    def _made(self, own: bytes) -> ssl.SSLContext:
        context = _context(ssl.PROTOCOL_TLS_SERVER, self._authority)
        context.verify_mode = ssl.CERT_OPTIONAL
        # The ssl module reads from files alone.
        with tempfile.NamedTemporaryFile(prefix="blocksnap-") as file:
            file.write(own)
            file.flush()
            _load(context, file.name, None, "the receiver's certificate")
        return context


class ClientTls:
    """A source's way to a receiver; ``context`` sees when the file of its certificate changed."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._seen: tuple[tuple[int, int], ...] = ()
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Return what the next connection needs. Blocks for a moment; safe for several threads.

        Raises:
            CertificateError: a file is missing, cannot be read or is damaged.
        """
        seen = _stamps(self._access)
        context = self._context
        if context is None or seen != self._seen:
            context = client_context(self._access)
            self._context, self._seen = context, seen
        return context


def client_context(access: Access) -> ssl.SSLContext:
    """Return what a source needs to reach a receiver that is of ``access.ca``.

    Raises:
        CertificateError: a file is missing, cannot be read or is damaged.
    """
    try:
        context = _context(ssl.PROTOCOL_TLS_CLIENT, None, access.ca)
    except OSError as error:
        raise _unusable(access.ca or "ca", error) from error
    if access.cert is not None:
        _load(context, access.cert, access.key, access.cert)
    return context


def pairing_context() -> ssl.SSLContext:
    """Return what reaches a receiver that is not known yet: nothing is trusted because of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what the pairing proves is proven without TLS
    return context


def peer_of(certificate: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return holder and pairing that a client's certificate, as of ``getpeercert``, names.

    Raises:
        NotAllowedError: it showed none, or one that names none.
    """
    found = certificate or {}
    names = [value for kind, value in found.get("subjectAltName", ()) if kind == "URI"]
    if len(names) != 1 or not HOLDER.fullmatch(names[0].removeprefix(SCHEME)):
        raise NotAllowedError(
            "no certificate was shown that says which host it is for",
            effect="Nothing was read or written.",
            hint="Pair the two hosts: blocksnapd pair-code on the receiver shows how.",
        )
    parts = {key: value for rdn in found.get("subject", ()) for key, value in rdn}
    return names[0].removeprefix(SCHEME), parts.get("serialNumber", "")


def _context(
    protocol: int, authority: str | None, authority_file: str | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if authority or authority_file:
        context.load_verify_locations(cafile=authority_file, cadata=authority)
    else:
        context.load_default_certs()
    return context


def _load(context: ssl.SSLContext, cert: str, key: str | None, what: str) -> None:
    try:
        context.load_cert_chain(cert, key, password=lambda: "")  # never ask on the terminal
    except OSError as error:
        raise _unusable(what, error) from error


def _stamps(access: Access) -> tuple[tuple[int, int], ...]:
    found = []
    for path in (access.ca, access.cert, access.key):
        if path is not None:
            try:
                info = os.stat(path)
            except OSError as error:
                raise _unusable(path, error) from error
            found.append((info.st_mtime_ns, info.st_ino))
    return tuple(found)


def _unusable(what: str, error: OSError) -> CertificateError:
    said = getattr(error, "reason", None) or error.strerror or str(error)
    return CertificateError(
        f"{what} cannot be used: {said}",
        effect="The receiver cannot be reached; the snapshot goes on tracking.",
        hint="Bring the file back, or pair the two hosts again: blocksnapctl pair.",
    )
