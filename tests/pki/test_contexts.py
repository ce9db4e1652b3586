"""TLS as it is shaken between a source and a receiver, without a network."""

from __future__ import annotations

import ssl

import pytest

from blocksnapd.errors import CertificateError, NotAllowedError
from blocksnapd.model import Access
from blocksnapd.pki.certificates import Authority, key_pem, make_request, new_key
from blocksnapd.pki.contexts import (
    ClientTls,
    ServerTls,
    client_context,
    pairing_context,
    peer_of,
)
from blocksnapd.runtime.clock import SystemClock

NOW = SystemClock().now()
AUTHORITY = Authority.make(NOW)


def source_pem(authority: Authority = AUTHORITY, *, now: float = NOW) -> bytes:
    key = new_key()
    return key_pem(key) + authority.sign(make_request(key), "source:db01", "a1b2", now)


def receiver_pem(*names: str, authority: Authority = AUTHORITY) -> bytes:
    return authority.make_receiver(names or ("backup1",), NOW)


@pytest.fixture
def access(tmp_path):
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.certificate)
    (tmp_path / "source.pem").write_bytes(source_pem())
    return Access(ca=str(tmp_path / "ca.crt"), cert=str(tmp_path / "source.pem"))


def shake(client: ssl.SSLContext, server: ServerTls, name: str | None = "backup1"):
    """Return both ends of a connection after its handshake and a byte each way."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.context.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    for one, other in (ends, ends[::-1]):
        one.write(b"x")
        assert other.read(1) == b"x"
    return ends


def test_a_paired_source_is_known_by_host_and_pairing(access):
    server = ServerTls(AUTHORITY.certificate, receiver_pem())
    _, theirs = shake(ClientTls(access).context(), server)
    assert theirs.version() == "TLSv1.3"
    assert peer_of(theirs.getpeercert()) == ("source:db01", "a1b2")


def test_who_is_not_paired_may_come_without_a_certificate_and_is_nobody(access):
    server = ServerTls(AUTHORITY.certificate, receiver_pem())
    _, theirs = shake(pairing_context(), server)
    with pytest.raises(NotAllowedError, match="no certificate"):
        peer_of(theirs.getpeercert())


@pytest.mark.parametrize(
    "names",
    [
        (),
        (("DNS", "db01"),),
        (("URI", "blocksnap:root:a"),),
        (("URI", "blocksnap:source:a"), ("URI", "blocksnap:source:b")),
    ],
)
def test_a_certificate_that_names_no_one_holder_is_nobodys(names):
    with pytest.raises(NotAllowedError, match="no certificate"):
        peer_of({"subject": ((("serialNumber", "a"),),), "subjectAltName": names})


def test_a_certificate_of_another_authority_is_refused(access, tmp_path):
    server = ServerTls(AUTHORITY.certificate, receiver_pem())
    (tmp_path / "source.pem").write_bytes(source_pem(Authority.make(NOW)))
    with pytest.raises(ssl.SSLError):
        shake(client_context(access), server)


def test_a_certificate_that_ended_is_refused(access, tmp_path):
    server = ServerTls(AUTHORITY.certificate, receiver_pem())
    (tmp_path / "source.pem").write_bytes(source_pem(now=NOW - 200 * 86_400))
    with pytest.raises(ssl.SSLError, match="expired"):
        shake(client_context(access), server)


def test_another_receiver_is_not_believed(access):
    other = Authority.make(NOW)
    stranger = ServerTls(other.certificate, receiver_pem(authority=other))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client_context(access), stranger)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake(client_context(access), ServerTls(AUTHORITY.certificate, receiver_pem("elsewhere")))


def test_a_source_cannot_pass_for_the_receiver(access):
    """Its certificate is for clients, although the same authority signed it."""
    key = new_key()
    signed = AUTHORITY.sign(make_request(key), "source:backup1", "a", NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"purpose|unsuitable|unsupported"):
        shake(client_context(access), ServerTls(AUTHORITY.certificate, key_pem(key) + signed))


def test_a_renewed_receiver_is_seen_by_the_next_connection_and_not_by_open_ones(access):
    server = ServerTls(AUTHORITY.certificate, receiver_pem())
    client = ClientTls(access).context()
    ours, theirs = shake(client, server)
    first = ours.getpeercert(True)
    server.use(receiver_pem())
    theirs.write(b"still here")
    assert ours.read(99) == b"still here"
    second = shake(client, server)[0].getpeercert(True)
    assert first != second
    server.use(receiver_pem("192.0.2.7"))
    assert shake(client, server, "192.0.2.7")[0].getpeercert(True) not in (first, second)


def test_a_renewed_source_is_seen_by_the_next_connection(access, tmp_path):
    server = ServerTls(AUTHORITY.certificate, receiver_pem())
    tls = ClientTls(access)
    first = tls.context()
    assert tls.context() is first
    (tmp_path / "new.pem").write_bytes(source_pem())
    (tmp_path / "new.pem").rename(tmp_path / "source.pem")
    assert tls.context() is not first
    shake(first, server)
    shake(tls.context(), server)


def test_files_that_are_missing_or_damaged_are_told(access, tmp_path):
    for damage in ("ca", "cert"):
        broken = Access(
            ca=str(tmp_path / "none") if damage == "ca" else access.ca,
            cert=str(tmp_path / "none") if damage == "cert" else access.cert,
        )
        with pytest.raises(CertificateError, match="cannot be used"):
            client_context(broken)
        with pytest.raises(CertificateError, match="cannot be used"):
            ClientTls(broken).context()
    (tmp_path / "source.pem").write_bytes(b"nonsense")
    with pytest.raises(CertificateError, match=r"source\.pem cannot be used"):
        client_context(access)
    with pytest.raises(CertificateError, match="receiver"):
        ServerTls(AUTHORITY.certificate, b"nonsense")
