"""Fixtures of the flows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.flow.kit import NOBODY, Site
from tests.flow.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def site() -> Iterator[Site]:
    """A host of its own."""
    found = Site()
    yield found
    found.close()


@pytest.fixture
def vault(site: Site) -> Iterator[Vault]:
    """A receiver that keeps what ``site`` ships."""
    made = Vault(site)
    made.start()
    yield made
    if made.process is not None:
        made.end(signal.SIGKILL)
    assert "Traceback" not in made.log.read_text(), made.log.read_text()


@pytest.fixture
def plain_site() -> Iterator[Site]:
    """A host on which nobody is root; says aloud when the code can't be read by others."""
    if os.geteuid() == 0:
        probe = [*NOBODY, sys.executable, "-c", "import blocksnapd.daemon"]
        try:
            found = subprocess.run(probe, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("becoming another user needs setpriv (util-linux)")
        if found.returncode:
            pytest.skip(f"the user nobody cannot run this code: {found.stderr.strip()[-200:]}")
    site = Site(user=NOBODY if os.geteuid() == 0 else ())
    yield site
    site.close()
