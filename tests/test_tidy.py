"""The project keeps its own shape; and the rules bite, shown on small broken sources."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import tidy
from tests.tidy import problems

PROJECT = Path(__file__).resolve().parents[1]
TESTS = {"tests.store.test_x": "import blocksnapd.store.x", "tests.ctl.test_x": ""}


def texts(*folders: str) -> dict[str, str]:
    """Return module name → text of everything below ``folders``."""
    return {
        ".".join(file.relative_to(PROJECT).with_suffix("").parts): file.read_text()
        for folder in folders
        for file in sorted((PROJECT / folder).rglob("*.py"))
    }


def test_the_project_keeps_its_shape() -> None:
    sources = texts("blocksnapd", "blocksnapctl")
    assert len(sources) > 50
    assert problems(sources, texts("tests")) == []


def test_no_exception_outlives_its_reason() -> None:
    sources, tests = texts("blocksnapd", "blocksnapctl"), texts("tests")
    named = {*tidy.MAY_SYNC, *tidy.TESTED_THROUGH, *(name for name, _ in tidy.PURE_ANYWAY)}
    assert named - set(sources) == set()
    assert set(tidy.TESTED_THROUGH.values()) - set(tests) == set()


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    """What blocksnapctl imports, by itself or through others, is the standard library."""
    code = (
        "import sys, blocksnapctl.__main__; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "blocksnapctl" in loaded
    assert loaded & {"aiohttp", "numpy", "pydantic", "msgspec", "cryptography", "asyncio"} == set()


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("store.x", "from blocksnapd.ship import y", "may not import blocksnapd.ship.y"),
        ("store.x", "from blocksnapd.pipeline import z", "may not import blocksnapd.pipeline"),
        ("store.x", "def f():\n import blocksnapd.daemon", "may not import blocksnapd.daemon"),
        ("store.x", "import blocksnapctl.render", "may not import blocksnapctl.render"),
        ("store.x", "import blocksnapd.new_part", "may not import blocksnapd.new_part"),
        ("model", "from blocksnapd.ports import Clock", "may not import blocksnapd.ports"),
        ("store.x", "'''X. Pure.'''\nimport os", "says it is pure but imports os"),
        ("store.x", "'''X. Pure.'''\nimport os.path", "says it is pure but imports os.path"),
        ("store.x", "'''X. Pure.'''\nfrom time import time", "says it is pure but imports time"),
        (
            "store.x",
            "'''X.\n\nAll of it. Pure.\n'''\nfrom blocksnapd.store import edge",
            "says it is pure but imports blocksnapd.store.edge",
        ),
        ("store.x", "import os\nos.fsync(3)", "may not fsync"),
        ("store.x", "import os\nos.replace('a', 'b')", "may not os.replace"),
        ("store.x", "import os\nmove = os.rename", "may not os.rename"),
        ("store.x", "subprocess.run(['lvs'])", "may not subprocess.run"),
        ("store.x", "asyncio.create_subprocess_exec('lvs')", "may not create_subprocess_exec"),
        ("cycle.x", "os.system('lvs')", "may not os.system"),
        ("cycle.x", "subprocess.run('lvs', shell=True)", "may not shell=True"),
        ("store.x", "x = 1", "no docstring"),
        ("store.x", "'''X.'''\n" + "x = 1\n" * 401, "has 402 lines"),
        ("store.untested", "'''X.'''", "no test; write tests/store/test_untested.py"),
    ],
)
def test_a_broken_rule_is_told(name: str, text: str, problem: str) -> None:
    sources = {
        f"blocksnapd.{name}": text,
        "blocksnapd.ship.y": "'''Y.'''",
        "blocksnapd.store.edge": "'''E. Edge.'''",
    }
    assert any(
        sentence.startswith(f"blocksnapd.{name} ") and problem in sentence
        for sentence in problems(sources, TESTS)
    )


@pytest.mark.parametrize(
    "text",
    [
        "from blocksnapd.store import files",
        "import blocksnapd.runtime.process",
        "from blocksnapd.control import server",
    ],
)
def test_the_command_line_imports_the_messages_only(text: str) -> None:
    sources = {
        "blocksnapctl.x": f"'''X.'''\n{text}",
        "blocksnapd.store.files": "'''F.'''",
        "blocksnapd.control.server": "'''S.'''",
    }
    assert any("blocksnapctl.x may not import" in line for line in problems(sources, TESTS))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("blocksnapd.store.x", "'''X. Pure.'''\nimport json\nfrom blocksnapd.errors import E"),
        ("blocksnapd.store.x", "'''X. Pure.'''\nif TYPE_CHECKING:\n    from pathlib import Path"),
        (
            "blocksnapd.store.x",
            "'''X.'''\nfrom blocksnapd.store import files\n'a'.replace('b', 'c')",
        ),
        ("blocksnapd.store.x", "'''X; long because it is a table.'''\n" + "x = 1\n" * 401),
        (
            "blocksnapctl.x",
            "'''X.'''\nimport blocksnapd.control.messages, subprocess",
        ),
        ("blocksnapctl.x", "'''X.'''\nfrom blocksnapd import __version__"),
    ],
)
def test_what_is_allowed_passes(name: str, text: str) -> None:
    assert problems({name: text}, TESTS) == []
