"""A source's side of pairing: from a short code to files that open the receiver. Edge: network.

What is written is one file with key and certificate and one with the receiver's authority, whole
or not at all; a renewed certificate comes with a new key, in one step. The private key never leaves
this host.
"""

from __future__ import annotations

import http.client
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization

from blocksnapd.errors import CertificateError, HostError, StoreError, UsageError
from blocksnapd.pki.certificates import (
    certificate_of,
    check_holder,
    check_signed,
    key_pem,
    make_request,
    new_key,
    read_facts,
)
from blocksnapd.pki.codes import read_code
from blocksnapd.pki.contexts import client_context, pairing_context
from blocksnapd.pki.exchange import Asking
from blocksnapd.pki.wire import (
    BEGIN_PATH,
    FINISH_PATH,
    MESSAGE_SIZE_MAX,
    RENEW_PATH,
    Begin,
    Begun,
    Finish,
    Issued,
    Renew,
    Renewed,
    pack,
    unpack,
)
from blocksnapd.receiver_url import ReceiverAddress, parse_receiver
from blocksnapd.runtime import durable
from blocksnapd.store.receiver_wire import unpack_problem

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from blocksnapd.model import Access

ANSWER_S_MAX: Final = 20.0
_FILE_SIZE_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class Paired:
    """What pairing made: paths of files; ``name`` is one for the target."""

    name: str
    url: str
    ca: str
    cert: str


def pair(url: str, code: str, holder: str, directory: str) -> Paired:
    """Pair with the receiver at ``url``; blocks for some seconds.

    Raises:
        UsageError: what was typed cannot be right. PairingError: the receiver does not believe
            that it is the code, or we do not believe the receiver.
        StoreError: nobody answers there. HostError: the files cannot be written.
    """
    code, host = read_code(code), _address(url).host
    context, asking, key = pairing_context(), Asking(code, check_holder(holder)), new_key()
    said = _post(url, context, BEGIN_PATH, pack(Begin(holder, asking.message)))
    begun = unpack(said, Begun)
    proofs, request = asking.proofs(begun.message), make_request(key)
    proof = proofs.make("source", request, host.encode())
    finish = Finish(begun.exchange, request, host, proof)
    issued = unpack(_post(url, context, FINISH_PATH, pack(finish)), Issued)
    proofs.check(issued.proof, "receiver", issued.certificate, issued.authority)
    check_signed(issued.certificate, issued.authority, key)
    role = holder.partition(":")[0]
    name = target_name(host)
    file = name if role == "source" else f"{name}-{role}"
    return Paired(
        name, url, *_keep(directory, {
            f"{file}.ca.crt": certificate_of(issued.authority),
            f"{file}.pem": key_pem(key) + certificate_of(issued.certificate),
        })
    )  # fmt: skip


def target_name(host: str) -> str:
    """Return a name for the target, and its files, that is at the receiver ``host``."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", host).strip("-")[:40] or "receiver"


def renew(url: str, access: Access) -> float:
    """Have the receiver renew the certificate in ``access.cert``; return until when it is good.

    Raises:
        NotAllowedError, StoreError: the receiver refuses or does not answer; the old one stays.
        CertificateError: a file is damaged, or what came back is none.
    """
    assert access.cert is not None
    assert access.ca is not None
    key = new_key()
    message = pack(Renew(make_request(key)))
    renewed = unpack(_post(url, client_context(access), RENEW_PATH, message), Renewed)
    with open(access.ca, "rb") as file:
        check_signed(renewed.certificate, file.read(_FILE_SIZE_MAX), key)
    made = key_pem(key) + certificate_of(renewed.certificate)
    if read_facts(made).holder != read_facts(read_certificate(access.cert)).holder:
        raise CertificateError(
            f"{url} renewed the certificate in {access.cert} for somebody else",
            effect="The old one stays in use.",
            hint="Pair the two hosts again: blocksnapctl pair.",
        )
    try:
        durable.replace(access.cert, made)
    except OSError as error:
        raise _unwritten(access.cert, error) from error
    return read_facts(made).ends


def is_ours_to_renew(access: Access) -> bool:
    """Return whether key and certificate are one file, as ``pair`` makes them."""
    if access.cert is None or access.key not in (None, access.cert):
        return False
    pem = read_certificate(access.cert)
    try:
        serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        return False
    return bool(read_facts(pem).pairing)


def read_certificate(path: str) -> bytes:
    """Return what is in a file with a certificate.

    Raises:
        CertificateError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(_FILE_SIZE_MAX)
    except OSError as error:
        raise CertificateError(
            f"{path} cannot be read: {error.strerror}",
            effect="The receiver cannot be reached; the snapshot goes on tracking.",
            hint="Bring the file back, or pair the two hosts again: blocksnapctl pair.",
        ) from error


def _address(url: str) -> ReceiverAddress:
    try:
        return parse_receiver(url)
    except ValueError as error:
        effect = "Nothing was asked of anybody; no try was used up."
        raise UsageError(str(error), effect=effect) from error


def _post(url: str, context: ssl.SSLContext, path: str, body: bytes) -> bytes:
    """Return the answer to ``body``; raise the error that it tells."""
    try:
        connection = http.client.HTTPSConnection(
            *_address(url), timeout=ANSWER_S_MAX, context=context
        )
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read(MESSAGE_SIZE_MAX + 1)
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise StoreError(
            f"{url} cannot be reached: {getattr(error, 'strerror', None) or error}",
            effect="No certificate was made.",
            hint="Does blocksnapd receive run there, and does a firewall let this host through?",
        ) from error
    if answer.status != http.client.OK:
        raise unpack_problem(answer.status, data, url)
    return data


def _keep(directory: str, files: Mapping[str, bytes]) -> list[str]:
    paths = []
    for name, data in files.items():
        path = os.path.join(directory, name)
        try:
            durable.make_dirs(directory)
            durable.replace(path, data)
        except OSError as error:
            raise _unwritten(path, error) from error
        paths.append(path)
    return paths


def _unwritten(path: str, error: OSError) -> HostError:
    return HostError(
        f"{path} could not be written: {error.strerror or error}",
        effect="The certificate that was made is lost; one that was there before is untouched.",
        hint="See the disk, and the owner and mode of the directory; then pair again, as root.",
    )
