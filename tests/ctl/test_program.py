"""How the daemon program is started."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from blocksnapctl.program import WorkerFailedError, daemon_program

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_this_interpreter_s_blocksnapd_and_not_the_directory_s(tmp_path: Path) -> None:
    """Whoever can write where root happens to stand must not run code as root."""
    (tmp_path / "blocksnapd").mkdir()
    (tmp_path / "blocksnapd" / "__init__.py").write_text("print('evil')")
    (tmp_path / "blocksnapd" / "__main__.py").write_text("print('evil')")
    done = subprocess.run(
        [*daemon_program(), "--version"], cwd=tmp_path, capture_output=True, text=True,
        check=True, timeout=60, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    assert done.stdout.startswith("blocksnapd ")


def test_a_failed_worker_s_exit_code() -> None:
    assert WorkerFailedError(11).exit_code == 11
