"""Fixtures of the exports' tests."""

from __future__ import annotations

import pytest

from tests.export.certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority with a server's and a client's certificate."""
    return Certificates(tmp_path_factory.mktemp("pki"))
