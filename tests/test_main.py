"""The daemon program's own line: exit codes, and three-part messages for every error of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import jsonschema
import pytest

from blocksnapd import __version__
from blocksnapd.__main__ import main
from tests.test_schemas import shipped

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
schema = 1
[target.near]
url = "{path}/repository"
source_key = "{path}/keys/source.key"
[volume."{path}/disk.img"]
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "blocksnap.toml"
    path.write_text(CONFIG.format(path=tmp_path))
    return str(path)


def test_version_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, code in ((["--version"], 0), (["nothing"], 2), (["init"], 2), (["cow", "melt"], 2)):
        with pytest.raises(SystemExit) as end:
            main(argv)
        assert end.value.code == code
    assert capsys.readouterr().out == f"blocksnapd {__version__}\n"


def test_numpy_starts_no_threads() -> None:
    program = (
        "import os, sys, blocksnapd.__main__ as program\n"
        "assert 'numpy' not in sys.modules\n"
        "try: program.main(['--version'])\n"
        "except SystemExit: import numpy\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    argv = [sys.executable, "-c", program]
    said = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[1:] == ["1"]


@pytest.mark.parametrize("argv", [["check", "--config"], ["--config"]])
def test_the_configuration_is_named_before_or_after_the_verb(
    argv: list[str], config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*argv, config] if argv[0] == "check" else [*argv, config, "check"]
    assert main(line) == 0
    assert capsys.readouterr().out == f"{config}: 1 volume, 1 target\n"


def test_init_makes_keys_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["init", str(tmp_path / "repository"), "--keys", str(tmp_path / "keys")]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "Lost keys cannot be made again" in said
    assert os.stat(tmp_path / "keys" / "restore.key").st_mode & 0o777 == 0o600
    assert main(line) != 0
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 3
    assert error[0].startswith("blocksnapd: ")


def test_a_passphrase_that_was_mistyped_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["init", str(tmp_path / "r"), "--keys", str(tmp_path / "k"), "--passphrase"]
    for typed in (["one", "two"], ["", ""]):
        answers = iter(typed)
        monkeypatch.setattr("getpass.getpass", lambda _, answers=answers: next(answers))
        assert main(line) == 2
        assert len(capsys.readouterr().err.splitlines()) == 3
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_cow_space(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cow", "create", "spare", "--config", config]) == 11
    assert f"{config} has no [cow.spare]" in capsys.readouterr().err
    assert main(["cow", "create", "--config", config]) == 0  # none is configured: nothing to do


def test_doctor_without_snapshots_looks_at_the_targets(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--config", config]) == 1
    said = capsys.readouterr().out
    assert "[E-REPO-MISSING]" in said
    assert said.endswith("1 thing is not right\n")
    assert main(["doctor", "--json", "--config", config]) == 1
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, shipped("checkup"))
    found = document["findings"]
    assert [(f["code"], f["about"], f["fixable"]) for f in found] == [
        ("E-REPO-MISSING", "near", False)
    ]
    assert main(["doctor", "--plain", "--config", config]) == 1
    assert capsys.readouterr().out.split("\t")[0] == "E-REPO-MISSING"
    assert main(["init", str(tmp_path / "repository"), "--keys", str(tmp_path / "keys")]) == 0
    capsys.readouterr()
    assert main(["doctor", "--config", config]) == 0
    assert capsys.readouterr().out == "everything is right\n"


def test_an_interrupted_command(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("blocksnapd.config.load", interrupted)
    assert main(["check", "--config", config]) == 130
