"""``receive.toml``: what it may say, what is wrong with it, what one host gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocksnapd.config_receive import ReceiveConfig, load_receive
from blocksnapd.errors import ConfigError
from blocksnapd.units import GIB

EXAMPLE = Path(__file__).parent.parent / "packaging/examples/receiver/receive.toml"


def loaded(tmp_path: Path, text: str) -> ReceiveConfig:
    path = tmp_path / "receive.toml"
    path.write_text(text)
    return load_receive(str(path))


def test_the_example_says_what_it_means():
    config = load_receive(str(EXAMPLE))
    assert config.receive.reserve == 10 * GIB
    assert [listen.tcp_port for listen in config.receive.listen] == [7420, 7420]
    db01, other, gone = config.host("db01"), config.host("other"), config.host("retired")
    assert (db01.quota, db01.floor_s, len(db01.keep)) == (2048 * GIB, 30 * 86_400, 4)
    assert (other.quota, other.floor_s, other.maintenance_key) == (500 * GIB, 14 * 86_400, None)
    assert (gone.is_blocked, gone.quota, other.is_blocked) == (True, 500 * GIB, False)


def test_nothing_said_is_a_receiver_too(tmp_path):
    config = loaded(tmp_path, "schema = 1")
    assert config.receive.listen[0].tcp_port == 7420
    assert config.host("any").quota is None
    assert not config.host("any").may_maintain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "schema must be 1"),
        ("schema = 1\n[recieve]", "recieve is not a key of blocksnap; did you mean 'receive'?"),
        ("schema = 1\n[receive]\nroot = 'here'", "receive.root must be"),
        ("schema = 1\n[receive]\nroot = 's3://vault'\nspool = 'x'", "receive.spool must be an abs"),
        ("schema = 1\n[receive]\nroot = 's3://key:secret@vault/x'", "a URL holds no credentials"),
        (
            "schema = 1\n[receive]\nroot = 'https://backup1/'",
            "receive.root must be an absolute path",
        ),
        (
            "schema = 1\n[receive]\ncredentials = 'x'",
            "receive.credentials must be",
        ),
        ("schema = 1\n[receive]\nlisten = ['7420']", "is not an address"),
        ("schema = 1\n[defaults]\nquotta = '1 GiB'", "did you mean 'quota'?"),
        ("schema = 1\n[host.db01]\nquota = 5", "host.db01.quota must be a text with a unit"),
        ('schema = 1\n[host."../x"]', "is not a name"),
        ("schema = 1\n[host.db01]\nkeep = ['often']", "host.db01.keep"),
        ("schema = 1\n[host.db01]\nblocked = 'yes'", "must be true or false"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path, text, said):
    with pytest.raises(ConfigError) as told:
        loaded(tmp_path, text)
    assert said in told.value.message


def test_a_bucket_is_a_root_too(tmp_path):
    root = "s3://vault/hosts?endpoint=https://s3.lan:8333&lock=30d"
    receive = loaded(tmp_path, f'schema = 1\n[receive]\nroot = "{root}"').receive
    assert (receive.root, receive.credentials) == (root, None)
    assert receive.spool == "/var/lib/blocksnap-receive/spool"


def test_a_host_says_only_what_differs(tmp_path):
    config = loaded(tmp_path, 'schema = 1\n[defaults]\nquota = "1 GiB"\nfloor = "2d"\n'
                    '[host.db01]\nfloor = "3d"')  # fmt: skip
    assert (config.host("db01").quota, config.host("db01").floor_s) == (GIB, 3 * 86_400)
