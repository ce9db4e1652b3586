"""A receiver with its own authority: paired over real TLS, renewed, revoked, without a restart."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from blocksnapd.config_receive import load_receive
from blocksnapd.errors import (
    CertificateError,
    FormatError,
    NotAllowedError,
    PairingError,
    StoreError,
    StoreRefusedError,
    UsageError,
)
from blocksnapd.model import Access
from blocksnapd.pki.certificates import LIFETIME_S, Authority, make_request, new_key, read_facts
from blocksnapd.pki.contexts import pairing_context
from blocksnapd.pki.registry import Registry
from blocksnapd.pki.wire import BEGIN_PATH, RENEW_PATH, Begin, Renew, pack
from blocksnapd.receive.pairing import REFRESH_EVERY_S, Pairing
from blocksnapd.receive.service import Receiver
from blocksnapd.runtime.clock import ManualClock, SystemClock
from blocksnapd.store import receiver_pairing
from blocksnapd.store.receiver import ReceiverStore
from blocksnapd.store.receiver_link import TlsDialer
from blocksnapd.store.receiver_pairing import (
    is_ours_to_renew,
    pair,
    read_certificate,
    renew,
)

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
schema = 1
[receive]
listen = ["127.0.0.1:{tcp_port}"]
root = "{folder}/root"
reserve = "0 B"
[pki]
directory = "{folder}/pki"
"""
LIST = "g/vol/"


class Host:
    """A receiver that runs, and what its operator does beside it."""

    def __init__(self, folder: Path, tcp_port: int) -> None:
        (folder / "root/db01").mkdir(parents=True)
        path = folder / "receive.toml"
        path.write_text(CONFIG.format(folder=folder, tcp_port=tcp_port))
        self.folder = folder
        self.url = f"https://127.0.0.1:{tcp_port}"
        self.tcp_port = tcp_port
        self.receiver = Receiver(load_receive(str(path)))

    def registry(self) -> Registry:
        """As another process sees it."""
        return Registry(str(self.folder / "pki"), SystemClock())

    def code(self, holder: str = "source:db01") -> str:
        return self.registry().open_code(holder)

    async def pair(self, code: str, holder: str = "source:db01", files: str = "source"):
        return await asyncio.to_thread(pair, self.url, code, holder, str(self.folder / files))

    def store(self, paired) -> ReceiverStore:
        access = Access(ca=paired.ca, cert=paired.cert)
        return ReceiverStore(self.url, TlsDialer("127.0.0.1", self.tcp_port, access))


@pytest.fixture
async def host(tmp_path, unused_tcp_port):
    made = Host(tmp_path, unused_tcp_port)
    await made.receiver.start()
    yield made
    await made.receiver.serving.stop()


async def listed(store: ReceiverStore) -> list[str]:
    return await asyncio.to_thread(store.list_names, LIST)


async def test_a_paired_host_is_let_in_and_its_files_are_its_own(host):
    paired = await host.pair(host.code())
    store = host.store(paired)
    assert await listed(store) == []
    store.close()
    assert paired.name == "127-0-0-1"
    for path in (paired.ca, paired.cert):
        assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(paired.cert)).st_mode & 0o777 == 0o700
    assert read_facts(read_certificate(paired.cert)).holder == "source:db01"


async def test_a_wrong_code_makes_nothing(host):
    host.code()
    with pytest.raises(PairingError, match="code was wrong"):
        await host.pair("0000-0000")
    assert not (host.folder / "source").exists()
    assert host.registry().holders() == {}


async def test_without_an_open_code_nothing_begins(host):
    with pytest.raises(PairingError, match="no code is open for source:db01") as caught:
        await host.pair("0000-0000")
    assert "blocksnapd pair-code db01" in caught.value.hint


async def test_a_code_that_was_used_is_over(host):
    code = host.code()
    await host.pair(code)
    with pytest.raises(PairingError, match="no code is open"):
        await host.pair(code, files="thief")


async def test_a_man_in_the_middle_is_noticed_and_learns_nothing(host, unused_tcp_port_factory):
    """He has a receiver of his own and does not know the code: nobody pairs with anybody."""
    his = Host(host.folder / "his", unused_tcp_port_factory())
    await his.receiver.start()
    code = host.code()
    his.code()
    with pytest.raises(PairingError, match="somebody stands between"):
        await asyncio.to_thread(pair, his.url, code, "source:db01", str(host.folder / "source"))
    assert not (host.folder / "source").exists()
    await host.pair(code)  # no try of the true receiver was used up
    await his.receiver.serving.stop()


async def test_strangers_without_a_certificate_get_no_further(host):
    post = receiver_pairing._post
    with pytest.raises(StoreRefusedError, match="no certificate was shown"):
        await asyncio.to_thread(post, host.url, pairing_context(), f"/v1/settle/{LIST}", b"")
    renewal = pack(Renew(make_request(new_key())))
    with pytest.raises(NotAllowedError, match="no certificate was shown"):
        await asyncio.to_thread(post, host.url, pairing_context(), RENEW_PATH, renewal)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{}", FormatError),
        (b"\0" * 9000, FormatError),
        (pack(Begin("root:db01", b"")), UsageError),
        (pack(Begin("source:../x", b"")), UsageError),
        (pack(Begin("source:db01", b"short")), FormatError),
    ],
)
async def test_garbage_is_answered_and_harms_nobody(host, body, error):
    code = host.code()
    post = receiver_pairing._post
    with pytest.raises(error):
        await asyncio.to_thread(post, host.url, pairing_context(), BEGIN_PATH, body)
    await host.pair(code)


async def test_a_revoked_host_is_refused_also_on_connections_that_are_open(host):
    paired = await host.pair(host.code())
    store = host.store(paired)
    await listed(store)
    host.registry().revoke("source:db01")
    await asyncio.to_thread(host.receiver.pairing._look)
    with pytest.raises(StoreRefusedError, match="not let in any more"):
        await listed(store)
    with pytest.raises(NotAllowedError, match="not let in any more"):
        await asyncio.to_thread(renew, host.url, Access(ca=paired.ca, cert=paired.cert))
    store.close()
    again = host.store(await host.pair(host.code()))
    await listed(again)
    again.close()


async def test_a_stolen_certificate_ends_with_the_next_pairing(host):
    stolen = host.store(await host.pair(host.code(), files="thief"))
    await listed(stolen)
    store = host.store(await host.pair(host.code()))
    with pytest.raises(StoreRefusedError):
        await listed(stolen)
    await listed(store)
    for one in (stolen, store):
        one.close()


async def test_a_source_renews_while_its_connections_go_on(host):
    paired = await host.pair(host.code())
    access = Access(ca=paired.ca, cert=paired.cert)
    assert is_ours_to_renew(access)
    store = host.store(paired)
    await listed(store)
    before = read_certificate(paired.cert)
    ends = await asyncio.to_thread(renew, host.url, access)
    after = read_certificate(paired.cert)
    assert after != before
    assert read_facts(after).ends == ends
    assert read_facts(after).pairing == read_facts(before).pairing
    await listed(store)  # on the connection that was open
    store.close()
    await listed(store)  # on a new one, with the new certificate
    store.close()


async def test_a_renewal_by_another_authority_is_refused(host):
    paired = await host.pair(host.code())
    access = Access(ca=paired.ca, cert=paired.cert)
    before = read_certificate(paired.cert)
    host.receiver.pairing._registry.authority = Authority.make(SystemClock().now())
    with pytest.raises(CertificateError, match="that it signed"):
        await asyncio.to_thread(renew, host.url, access)
    assert read_certificate(paired.cert) == before


async def test_the_receivers_own_certificate_follows_time_without_a_restart(tmp_path):
    clock = ManualClock(now=SystemClock().now())
    pairing = Pairing(str(tmp_path / "pki"), clock, ["backup1"])
    first, context = pairing.ends(), pairing.context
    told: asyncio.Queue[dict[str, float]] = asyncio.Queue()
    keeping = asyncio.create_task(pairing.keep(told.put_nowait))
    assert await told.get() == first
    clock.jump(LIFETIME_S * 0.7)
    await clock.advance(REFRESH_EVERY_S)
    second = await told.get()
    assert second["receiver"] > first["receiver"]
    assert second["authority"] == first["authority"]
    assert pairing.context is context
    keeping.cancel()


async def test_a_source_may_call_the_receiver_by_a_new_name(host):
    """Whoever knows a code tells under which name the receiver is found; it shows that, too."""
    names = read_facts(host.receiver.pairing._own).names
    assert "127.0.0.1" not in names
    await host.pair(host.code())
    assert "127.0.0.1" in read_facts(host.receiver.pairing._own).names


async def test_nobody_there_and_what_cannot_be_typed(tmp_path, unused_tcp_port):
    url = f"https://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(StoreError, match="cannot be reached"):
        pair(url, "0000-0000", "source:db01", str(tmp_path))
    for bad in ("http://a", "https://", "https://a/b", "backup1"):
        with pytest.raises(UsageError):
            pair(bad, "0000-0000", "source:db01", str(tmp_path))
    with pytest.raises(UsageError, match="pairing code"):
        pair(url, "123", "source:db01", str(tmp_path))
