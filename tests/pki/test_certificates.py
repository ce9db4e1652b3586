"""Keys, requests and certificates; what is none is refused."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import CertificateError, UsageError
from blocksnapd.pki.certificates import (
    LIFETIME_S,
    Authority,
    certificate_of,
    check_holder,
    check_signed,
    is_server_name,
    key_pem,
    make_request,
    new_key,
    read_facts,
)

NOW = 1_800_000_000.0
AUTHORITY = Authority.make(NOW)


def test_a_source_gets_a_certificate_of_its_host_and_pairing_for_three_months():
    key = new_key()
    signed = AUTHORITY.sign(make_request(key), "source:db01", "a1b2", NOW)
    facts = read_facts(signed)
    assert (facts.holder, facts.pairing, facts.names) == ("source:db01", "a1b2", ())
    assert facts.begins < NOW
    assert facts.ends == NOW + LIFETIME_S
    check_signed(signed, AUTHORITY.certificate, key)
    assert certificate_of(key_pem(key) + signed) == signed


def test_a_certificate_is_due_in_the_last_third_of_its_life():
    facts = read_facts(AUTHORITY.sign(make_request(new_key()), "source:db01", "a", NOW))
    assert not facts.is_due(NOW)
    assert not facts.is_due(NOW + LIFETIME_S * 0.66)
    assert facts.is_due(NOW + LIFETIME_S * 0.67)


def test_the_requests_own_wishes_do_not_count():
    """Whoever asks cannot name another host, nor ask to be an authority."""
    key = new_key()
    wishes = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "victim")]))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("victim"), x509.UniformResourceIdentifier("blocksnap:source:victim")]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    signed = AUTHORITY.sign(wishes, "source:db01", "a", NOW)
    assert read_facts(signed).holder == "source:db01"
    assert read_facts(signed).names == ()
    found = x509.load_pem_x509_certificate(signed).extensions
    assert not found.get_extension_for_class(x509.BasicConstraints).value.ca


def test_an_authority_is_the_same_after_it_was_kept():
    again = Authority(AUTHORITY.pem)
    assert again.certificate == AUTHORITY.certificate
    key = new_key()
    signed = again.sign(make_request(key), "source:db01", "a", NOW)
    check_signed(signed, AUTHORITY.certificate, key)


def test_another_authority_or_another_key_is_noticed():
    key = new_key()
    signed = AUTHORITY.sign(make_request(key), "source:db01", "a", NOW)
    with pytest.raises(CertificateError, match="that it signed"):
        check_signed(signed, Authority.make(NOW).certificate, key)
    with pytest.raises(CertificateError, match="for the key that asked"):
        check_signed(signed, AUTHORITY.certificate, new_key())


def _foreign_requests() -> list[bytes]:
    found = []
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        signed = builder.sign(key, hashes.SHA256())
        found.append(signed.public_bytes(serialization.Encoding.PEM))
    der = x509.load_pem_x509_csr(make_request(new_key())).public_bytes(serialization.Encoding.DER)
    broken = base64.encodebytes(der[:-1] + bytes([der[-1] ^ 1]))  # its signature
    frame = b"-----%s CERTIFICATE REQUEST-----\n"
    return [
        *found,
        frame % b"BEGIN" + broken + frame % b"END",
        b"",
        b"\0" * 9000,
        AUTHORITY.certificate,
    ]


@pytest.mark.parametrize("request_pem", _foreign_requests())
def test_what_is_no_request_of_ours_is_refused(request_pem):
    with pytest.raises(CertificateError, match="request"):
        AUTHORITY.sign(request_pem, "source:db01", "a", NOW)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_value_or_an_error_of_ours(data):
    for take in (read_facts, certificate_of, Authority):
        with pytest.raises(CertificateError):
            take(data)


@pytest.mark.parametrize("host", ["db01", "a", "web-1.example.net", "A_b", "x" * 63])
@pytest.mark.parametrize("role", ["source", "reader", "maintainer"])
def test_names_of_hosts(role, host):
    assert check_holder(f"{role}:{host}") == f"{role}:{host}"


@pytest.mark.parametrize("host", ["", ".", "..", "-a", "a/b", "a b", "x" * 64, "a\n", "ä", "a\0"])
def test_what_cannot_be_the_name_of_a_host_is_refused(host):
    with pytest.raises(UsageError):
        check_holder(f"source:{host}")


@pytest.mark.parametrize("holder", ["db01", "root:db01", "", ":", "source", "source:a:b"])
def test_what_has_no_role_is_refused(holder):
    with pytest.raises(UsageError):
        check_holder(holder)


def test_a_receiver_is_known_by_names_and_addresses():
    pem = AUTHORITY.make_receiver(["backup1", "192.0.2.7", "2001:db8::7"], NOW)
    assert read_facts(pem).names == ("backup1", "192.0.2.7", "2001:db8::7")
    assert all(map(is_server_name, ["backup1", "a.b.c", "192.0.2.7", "::1"]))
    bad = ["", "a b", "*", "a..b", "-a", "a/b", "x" * 254, "ä"]
    assert not any(map(is_server_name, bad))
