"""The parts of a receiver together: configuration and certificates are taken up while it runs."""

from __future__ import annotations

import asyncio

import pytest

from blocksnapd.config_receive import load_receive
from blocksnapd.errors import BlocksnapError, StoreError, StoreRefusedError
from blocksnapd.receive.service import Receiver
from blocksnapd.store.receiver import ReceiverStore
from blocksnapd.store.receiver_link import TlsDialer
from tests.fakes.certificates import Authority

CONFIG = """\
schema = 1
[receive]
listen = ["127.0.0.1:{tcp_port}"]
root = "{root}"
reserve = "0 B"
[pki]
ca = "{ca}"
cert = "{cert}"
key = "{key}"
"""


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "pki")


@pytest.fixture
def config(tmp_path, authority, unused_tcp_port):
    cert, key = authority.receiver()
    (tmp_path / "root/db01").mkdir(parents=True)
    path = tmp_path / "receive.toml"
    path.write_text(
        CONFIG.format(tcp_port=unused_tcp_port, root=tmp_path / "root", ca=authority.ca,
                      cert=cert, key=key)
    )  # fmt: skip
    return path


@pytest.fixture
async def receiver(config):
    made = Receiver(load_receive(str(config)))
    yield made
    await made.serving.stop()


def reach(receiver, authority, signed) -> ReceiverStore:
    listen = receiver.config.receive.listen[0]
    dialer = TlsDialer("127.0.0.1", listen.tcp_port, authority.access(signed))
    return ReceiverStore("https://r", dialer)


async def test_certificates_are_rotated_while_connections_are_open(
    receiver, authority, config, tmp_path
):
    await receiver.start()
    old = reach(receiver, authority, authority.client("source", "db01"))
    await asyncio.to_thread(old.list_names, "g/vol/")
    other = Authority(tmp_path / "pki2")
    cert, key = other.receiver()
    text = config.read_text()
    for a, b in ((authority.ca, other.ca), (receiver.config.pki.cert, cert),
                 (receiver.config.pki.key, key)):  # fmt: skip
        text = text.replace(f'"{a}"', f'"{b}"')
    config.write_text(text)
    await receiver.reload()
    new = reach(receiver, other, other.client("source", "db01"))
    await asyncio.to_thread(new.list_names, "g/vol/")
    await asyncio.to_thread(old.list_names, "g/vol/")  # on its open connection
    fresh = reach(receiver, authority, authority.client("source", "db01"))
    with pytest.raises(StoreError, match="do not trust each other"):
        await asyncio.to_thread(fresh.list_names, "g/vol/")
    for store in (old, new):
        store.close()


async def test_a_reload_that_fails_leaves_all_as_it_was(receiver, authority, config):
    await receiver.start()
    before = receiver.config
    config.write_text(config.read_text() + "[host.db01]\nblokked = true\n")
    await receiver.reload()
    assert receiver.config is before
    store = reach(receiver, authority, authority.client("source", "db01"))
    await asyncio.to_thread(store.list_names, "g/vol/")
    config.write_text(config.read_text().replace("blokked", "blocked"))
    await receiver.reload()
    with pytest.raises(StoreRefusedError, match="blocked"):
        await asyncio.to_thread(store.list_names, "g/vol/")
    store.close()


async def test_where_hosts_are_kept_changes_with_a_restart_alone(receiver, config, caplog):
    await receiver.start()
    root = receiver.config.receive.root
    text = config.read_text().replace(f'root = "{root}"', 'root = "/elsewhere"\nspool = "/x"')
    config.write_text(text.replace('reserve = "0 B"', 'reserve = "1 B"\n'))
    await receiver.reload()
    assert (receiver.config.receive.root, receiver.config.receive.reserve) == (root, 1)
    assert "listen, root, credentials, spool are taken up by a restart only" in caplog.text


@pytest.mark.parametrize("which", ["foreign", "expired", "none"])
async def test_who_has_no_good_certificate_does_not_get_in(receiver, authority, tmp_path, which):
    await receiver.start()
    if which == "foreign":
        signed = Authority(tmp_path / "else").client("source", "db01")
    elif which == "expired":
        signed = authority.client("source", "db01", days=-0.5)
    else:
        signed = authority.client("source", "db01")
    store = reach(receiver, authority, signed)
    if which == "none":
        store = ReceiverStore(
            "https://r",
            TlsDialer("127.0.0.1", receiver.config.receive.listen[0].tcp_port,
                      authority.access(signed).__class__(ca=authority.ca)),
        )  # fmt: skip
    with pytest.raises(StoreError):
        await asyncio.to_thread(store.list_names, "g/vol/")


async def test_a_certificate_that_names_no_host_is_refused(receiver, authority):
    await receiver.start()
    store = reach(receiver, authority, authority.named("odd", ["https://example.org/"]))
    with pytest.raises(StoreRefusedError, match="which host"):
        await asyncio.to_thread(store.list_names, "g/vol/")
    store.close()


async def test_without_its_directory_it_does_not_start(receiver, config, tmp_path):
    (tmp_path / "root/db01").rmdir()
    (tmp_path / "root").rmdir()
    with pytest.raises(BlocksnapError, match="no directory"):
        await receiver.start()
