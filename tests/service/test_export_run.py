"""What the settings of an export ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blocksnapd.config import Export, load
from blocksnapd.errors import NotFoundError
from blocksnapd.service.export_run import export_configured, request_for

if TYPE_CHECKING:
    from pathlib import Path


def test_settings_become_what_a_client_would_ask() -> None:
    plain = Export(target="near", key="/k", unix="/run/x.sock")
    assert request_for(plain) == {"kind": "export", "writable": False, "unix": "/run/x.sock"}
    safe = Export(
        target="near", key="/k", listen="[::1]:10809", certificate="/c",
        certificate_key="/ck", client_ca="/ca", writable=True,
    )  # fmt: skip
    assert request_for(safe) == {
        "kind": "export", "writable": True, "listen": "[::1]:10809", "certificate": "/c",
        "certificate_key": "/ck", "client_ca": "/ca",
    }  # fmt: skip


def test_an_export_that_is_not_configured(tmp_path: Path) -> None:
    path = tmp_path / "blocksnap.toml"
    path.write_text("schema = 1\n")
    with pytest.raises(NotFoundError, match="says nothing of an export points"):
        export_configured(load(str(path)), "points")
