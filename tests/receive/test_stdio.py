"""A receiver behind a real sshd, its forced command the real program; and the pipes alone."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from blocksnapd.config_receive import load_receive
from blocksnapd.errors import StoreError, StoreRefusedError
from blocksnapd.receive.caller import Caller
from blocksnapd.receive.stdio import receive_stdio
from blocksnapd.s3_url import below_s3_url
from blocksnapd.store.floor import floor_s_of
from blocksnapd.store.init import init_repository
from blocksnapd.store.ssh import GREETING
from tests.receive.behind_ssh import BehindSsh
from tests.store.support import make_repository


@pytest.fixture
def receiver(tmp_path):
    with BehindSsh(tmp_path, role="source") as made:
        yield made


def test_a_source_puts_through_ssh_and_no_more(receiver, tmp_path):
    init_repository(str(receiver.root / "db01"), str(tmp_path / "keys"))
    store = receiver.store()
    pack = "v/vol/d/20261123/p" + "7" * 16 + "-0001-0123abcd.pk"
    assert store.put(pack, [b"x" * 3_000_000]) == 3_000_000
    assert (receiver.root / "db01" / pack).stat().st_size == 3_000_000
    with pytest.raises(StoreRefusedError, match="source of host db01 may not get"):
        store.get(pack, size_max=9)
    with pytest.raises(StoreRefusedError, match="may not delete"):
        store.delete(pack)
    store.close()


def test_a_bucket_stands_behind_ssh_as_well(receiver, seaweed, tmp_path):
    """Each connection is a process of its own; what it keeps is in the bucket alone."""
    url, spool = seaweed.url(), tmp_path / "spool"
    receiver.config.write_text(
        f'schema = 1\n[receive]\nroot = "{url}"\ncredentials = "{seaweed.admin}"\n'
        f'spool = "{spool}"\n[defaults]\nfloor = "2d"\n'
    )
    store, kept = receiver.store(), seaweed.store(below_s3_url(url, "db01"))
    make_repository(store)
    pack = "v/vol/d/20261123/p" + "7" * 16 + "-0001-0123abcd.pk"
    assert store.put(pack, [b"x" * 3_000_000]) == 3_000_000
    lock = store.lock("v/vol/")
    assert not lock.is_everywhere
    lock.release()
    store.close()
    assert kept.size(pack) == 3_000_000
    assert floor_s_of(kept) == 2 * 86_400
    assert list(spool.iterdir()) == []


def test_what_comes_in_cannot_name_another_host(receiver):
    """The forced command alone says for whom it speaks; ssh's own command is not run."""
    (receiver.root / "db02").mkdir()
    store = receiver.store()
    with pytest.raises(StoreError, match="db01"):
        store.list_names("g/vol/")
    store.close()


def test_what_stops_the_receiver_reaches_the_source(receiver):
    receiver.config.write_text("schema = 2\n")
    store = receiver.store()
    with pytest.raises(StoreError, match=r"before its greeting; ssh says: .*schema"):
        store.list_names("g/vol/")
    store.close()


def test_the_program_says_for_whom_it_must_be_started(receiver):
    receiver.sshd.force(f"{sys.executable} -P -m blocksnapd receive --stdio "
                        f"--config {receiver.config}")  # fmt: skip
    store = receiver.store()
    with pytest.raises(StoreError, match=r"ssh says: .*for which host"):
        store.list_names("g/vol/")
    store.close()


async def test_it_greets_answers_and_ends_with_its_input(tmp_path):
    (tmp_path / "root/db01").mkdir(parents=True)
    config = tmp_path / "receive.toml"
    config.write_text(f'schema = 1\n[receive]\nroot = "{tmp_path}/root"\nreserve = "0 B"\n')
    inward, outward = os.pipe(), os.pipe()
    caller = Caller("db01", "reader")
    fds = (inward[0], outward[1])
    serving = asyncio.create_task(receive_stdio(load_receive(str(config)), caller, fds))

    def read_some(size: int) -> bytes:
        return os.read(outward[0], size)

    assert await asyncio.to_thread(read_some, len(GREETING)) == GREETING
    os.write(inward[1], b"GET /v1/room HTTP/1.1\r\nHost: receiver\r\n\r\n")
    answer = await asyncio.to_thread(read_some, 65536)
    assert answer.startswith(b"HTTP/1.1 200 ")
    os.close(inward[1])
    await asyncio.wait_for(serving, 20)
    for fd in (inward[0], *outward):
        os.close(fd)
