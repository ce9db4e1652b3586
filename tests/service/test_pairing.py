"""What pair, pair-code and revoke do and print, as the command line runs them."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib

import pytest

from blocksnapd.__main__ import main
from blocksnapd.config_receive import load_receive
from blocksnapd.errors import CertificateError, ConfigError, UsageError
from blocksnapd.pki.registry import Registry
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.service import pairing


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "receive.toml"
    path.write_text(f'schema = 1\n[pki]\ndirectory = "{tmp_path}/pki"\n')
    return load_receive(str(path))


def registry(config) -> Registry:
    return Registry(config.pki.directory, SystemClock())


def target_in(text: str) -> dict[str, dict[str, str]]:
    found = text[text.index("[target.") :]
    return tomllib.loads(found)["target"]


def test_a_code_is_shown_with_what_to_type_on_the_other_side(config, capsys):
    assert main(["pair-code", "db01", "--config", config.path]) == 0
    said = capsys.readouterr().out
    code = re.match(r"[0-9A-Z]{4}-[0-9A-Z]{4}\n", said)
    assert code is not None
    assert registry(config).code_of("source:db01") == code[0].strip().replace("-", "")
    assert re.search(rf"blocksnapctl pair https://\S+:7420 {code[0].strip()} --as db01\n", said)
    assert "10m" in said


def test_a_code_for_another_role(config):
    said = pairing.show_code(config, "db01", "reader")
    assert said.endswith("--as db01 --role reader\n")
    assert registry(config).code_of("reader:db01")


def test_revoking_what_was_never_paired_is_told(config, capsys):
    assert main(["revoke", "db01", "--config", config.path]) == 11
    assert "was not paired" in capsys.readouterr().err


def test_another_authority_pairs_nobody(tmp_path):
    path = tmp_path / "receive.toml"
    path.write_text('schema = 1\n[pki]\nca = "/a"\ncert = "/b"\nkey = "/c"\n')
    config = load_receive(str(path))
    for call in (pairing.show_code, pairing.revoke):
        with pytest.raises(ConfigError, match="uses the authority in /a"):
            call(config, "db01", "source")


def test_half_an_authority_is_refused(tmp_path):
    path = tmp_path / "receive.toml"
    path.write_text('schema = 1\n[pki]\nca = "/a"\n')
    with pytest.raises(ConfigError, match="all of them, or none"):
        load_receive(str(path))


def test_for_ssh_a_key_is_made_once_and_the_line_to_add_is_printed(tmp_path, capsys):
    url = "ssh://blocksnap@backup1.example.net:2222"
    argv = ["pair", url, "--as", "db01", "--pki", str(tmp_path / "pki")]
    assert main(argv) == 0
    said = capsys.readouterr().out
    target = target_in(said)["backup1-example-net"]
    assert target["url"] == url
    assert os.stat(target["key"]).st_mode & 0o777 == 0o600
    shown = subprocess.run(
        ["ssh-keygen", "-y", "-f", target["key"]], capture_output=True, text=True, check=True
    )
    line = 'restrict,command="blocksnapd receive --stdio --host db01" '
    assert f"{line}{shown.stdout.strip()} source:db01\n" in said
    assert main(argv) == 0
    assert capsys.readouterr().out == said


def test_a_file_that_is_no_key_of_ours_stays_as_it_is(tmp_path):
    (tmp_path / "backup1.ssh").write_text("something of somebody's")
    with pytest.raises(CertificateError, match="not a key that this command made"):
        pairing.pair_over_ssh("ssh://backup1", "db01", "source", str(tmp_path))
    assert (tmp_path / "backup1.ssh").read_text() == "something of somebody's"


def test_what_makes_no_sense_is_told(tmp_path, capsys):
    assert main(["pair", "ssh://backup1", "K7QM-2XPA"]) == 2
    assert "takes no code" in capsys.readouterr().err
    with pytest.raises(UsageError, match="name of a host"):
        pairing.pair_over_ssh("ssh://backup1", "db 01", "source", str(tmp_path))
    assert main(["receive", "--stdio", "--config", "/none"]) == 78


def test_the_name_of_this_host(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "db01.example.net")
    assert pairing.own_host_name() == "db01"
    monkeypatch.setattr("socket.gethostname", lambda: "localhost")
    with pytest.raises(UsageError, match="called 'localhost'") as caught:
        pairing.own_host_name()
    assert "--as NAME" in caught.value.hint
