"""The alert rules: judged and played through by Prometheus' own tool; each with its runbook."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blocksnapctl.arguments import PASSED_ON, make_parser

ROOT = Path(__file__).parent.parent
RULES = ROOT / "packaging" / "rules"
RUNBOOKS = ROOT / "packaging" / "runbooks"
RULES_TEXT = (RULES / "blocksnap.rules.yml").read_text()
TESTS_TEXT = (RULES / "blocksnap.test.yml").read_text()
ALERTS = re.findall(r"- alert: (\w+)\n(.*?)(?=\n      - |\n  - |\Z)", RULES_TEXT, flags=re.DOTALL)
PAGES = {page.stem: page.read_text() for page in RUNBOOKS.glob("*.md")}
HEADINGS = [
    "What it means", "How bad it is", "What to look at", "What to do", "When it is no alarm",
]  # fmt: skip
PROMTOOL = shutil.which(
    "promtool", path=f"{os.environ.get('PATH', '')}:{ROOT / 'build' / 'prometheus'}"
)


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian: prometheus)")
def test_the_rules_do_what_their_tests_say() -> None:
    assert PROMTOOL is not None
    for verb, name in (("check", "blocksnap.rules.yml"), ("test", "blocksnap.test.yml")):
        done = subprocess.run(
            [PROMTOOL, verb, "rules", name], cwd=RULES, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_says_what_it_has_to() -> None:
    assert len(ALERTS) >= 20
    for name, body in ALERTS:
        assert re.search(r"severity: (critical|warning|info)\b", body), name
        summary = re.search(r"summary: (.*)", body)
        assert summary is not None, name
        assert "{{" not in summary[1], f"{name}: what is templated belongs into the description"
        assert re.search(r"description: .*\{\{ \$labels\.\w+ \}\}", body, flags=re.DOTALL), name
        page = f"runbook_url: file:///usr/share/doc/blocksnap/runbooks/{name}.md"
        assert page in body, name


def test_every_alert_is_seen_firing_and_silent_by_a_test() -> None:
    """Each test of the file begins silent; that all of them pass is promtool's to say."""
    for name, _ in ALERTS:
        assert f'alertname="{name}"' in TESTS_TEXT or f"alertname: {name}" in TESTS_TEXT, name
    for text in re.split(r"^  - name: ", TESTS_TEXT, flags=re.MULTILINE)[1:]:
        first = re.search(r"exp_(?:samples|alerts):(.*)", text)
        assert first is not None
        assert first[1].strip() == "[]", text.partition("\n")[0]


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert {name for name, _ in ALERTS} == set(PAGES)
    for name, text in PAGES.items():
        assert text.startswith(f"# {name}\n")
        assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == HEADINGS, name
        for line in text.splitlines():
            assert len(line) <= 115, (name, line)


def test_the_pages_name_commands_that_exist() -> None:
    (verbs,) = [action for action in make_parser("")._actions if action.dest == "verb"]
    assert verbs.choices is not None
    ours = {*verbs.choices, *PASSED_ON}
    argv = [sys.executable, "-m", "blocksnapd", "--help"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    daemons = set(re.findall(r"^ {4}([a-z-]+) ", said, flags=re.MULTILINE))
    assert {"run", "check", "maintain"} <= daemons
    for name, text in PAGES.items():
        assert set(re.findall(r"`blocksnapctl\s+([a-z][\w-]+)", text)) <= ours, name
        assert set(re.findall(r"`blocksnapd\s+([a-z][\w-]+)", text)) <= daemons, name
        assert set(re.findall(r"\bBlocksnap\w+", text)) <= set(PAGES), name
