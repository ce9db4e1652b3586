"""Addresses of receivers."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.receiver_url import (
    ReceiverAddress,
    SshAddress,
    is_receiver,
    is_ssh,
    parse_receiver,
    parse_ssh,
)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://backup1.example.net", ("backup1.example.net", 7420)),
        ("https://backup1:8443/", ("backup1", 8443)),
        ("https://[::1]:7/", ("::1", 7)),
        ("HTTPS://192.0.2.7/", ("192.0.2.7", 7420)),
    ],
)
def test_addresses(url, address):
    assert is_receiver(url)
    assert parse_receiver(url) == ReceiverAddress(*address)


@pytest.mark.parametrize(
    "url",
    ["https://", "https:///x", "https://h:0/", "https://h:99999/", "https://h:x/", "https://h/p",
     "https://u@h/", "https://u:p@h/", "https://h/?q", "https://h/#f", "http://h/", "https://[::1/"],
)  # fmt: skip
def test_what_is_none_is_refused(url):
    with pytest.raises(ValueError, match="is not a receiver's address"):
        parse_receiver(url)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused(text):
    with contextlib.suppress(ValueError):
        found = parse_receiver(f"https://{text}")
        assert found.host
        assert 0 < found.tcp_port < 65536


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("ssh://backup1", ("", "backup1", None)),
        ("ssh://bs@backup1/", ("bs", "backup1", None)),
        ("ssh://bs@backup1:2222", ("bs", "backup1", 2222)),
        ("ssh://bs@[2001:db8::7]:22", ("bs", "2001:db8::7", 22)),
    ],
)
def test_where_a_url_leads(url, found):
    assert is_receiver(url)
    assert is_ssh(url)
    assert parse_ssh(url) == SshAddress(url, *found)


@pytest.mark.parametrize(
    "url",
    ["", "ssh://", "https://backup1", "ssh://-oProxyCommand=x", "ssh://-l@backup1",
     "ssh://a:secret@backup1", "ssh://backup1/srv", "ssh://backup1:x", "ssh://backup1:99999",
     "ssh://b c", "ssh://backup1?x", "ssh://backup1#x", "ssh://[::1", "ssh://a;b@c"],
)  # fmt: skip
def test_what_leads_nowhere_or_elsewhere_is_refused(url):
    with pytest.raises(ValueError, match="does not name"):
        parse_ssh(url)
