"""The alert rules: judged and played through by Prometheus' own tool, on metrics that exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from blocksnapd.metric_table import TABLE

ROOT = Path(__file__).parent.parent
RULES = ROOT / "packaging" / "rules"
PROMTOOL = shutil.which(
    "promtool", path=f"{os.environ.get('PATH', '')}:{ROOT / 'build' / 'promtool'}"
)


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian: prometheus)")
def test_the_rules_do_what_their_tests_say() -> None:
    assert PROMTOOL is not None
    for verb, name in (("check", "blocksnap.rules.yml"), ("test", "blocksnap.test.yml")):
        done = subprocess.run(
            [PROMTOOL, verb, "rules", name], cwd=RULES, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_in_them_is_one_of_ours() -> None:
    known = {f"blocksnap_{row.name}" for row in TABLE}
    for name in ("blocksnap.rules.yml", "blocksnap.test.yml"):
        used = set(re.findall(r"\bblocksnap_\w+", (RULES / name).read_text()))
        assert used
        assert used <= known, used - known
