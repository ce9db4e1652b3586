"""Each decoder, fuzzed by following its code, some seconds each."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz.decoders import all_decoders

ROOT = Path(__file__).parents[2]
SECONDS = 20


def run(name: str, folder: Path) -> str:
    """Return what was found in a decoder, empty for nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, str(SECONDS), str(folder / name)],
        capture_output=True, text=True, errors="replace", timeout=SECONDS + 120, check=False,
        cwd=ROOT,
    )  # fmt: skip
    if done.returncode == 0 and "stat::number_of_executed_units" in done.stderr:
        return ""
    return f"{name}:\n" + "\n".join(done.stderr.splitlines()[-30:])


@pytest.mark.long
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: pip install -e '.[fuzz]', as make test-long does",
)
def test_no_bytes_break_a_decoder(tmp_path):
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = [
            said for said in pool.map(lambda name: run(name, tmp_path), all_decoders()) if said
        ]
    assert found == []
