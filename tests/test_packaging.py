"""The Debian package: what it brings is pinned; it installs on a bare Debian 12, and goes again."""

from __future__ import annotations

import re
import shutil
import tomllib
from typing import TYPE_CHECKING

import pytest
from packaging.specifiers import SpecifierSet

from tests.package import BUILD_S_MAX, PROJECT, build, run

if TYPE_CHECKING:
    from pathlib import Path

ARCHIVE = "http://deb.debian.org/debian"
UNITS = ("blocksnapd.service", "blocksnapd.socket", "blocksnapd-receive.service")


def pins() -> dict[str, str]:
    """Return name → version of what the package brings."""
    text = (PROJECT / "packaging/deb/requirements.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def test_the_lock_satisfies_the_project() -> None:
    """If not: python packaging/deb/bundle.py lock."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["s3"]]
    locked = pins()
    assert len(locked) > 20
    for line in wanted:
        name, bounds = re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", line).groups()  # type: ignore[union-attr]
        if name != "systemd-python":  # Debian's own
            assert SpecifierSet(bounds).contains(locked[name.lower().replace("_", "-")]), line


def test_every_pin_has_a_hash_and_needs_no_compiler() -> None:
    text = (PROJECT / "packaging/deb/requirements.txt").read_text()
    for name in pins():
        entry = text.partition(f"{name}==")[2].split("\n")[1]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), name


def enabled(root: Path) -> set[str]:
    """Return our units that a boot of ``root`` starts; their links point into it."""
    links = (link for link in (root / "etc/systemd/system").rglob("*") if link.is_symlink())
    return {link.name for link in links if link.name.startswith("blocksnap")}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minimal Debian 12."""
    if shutil.which("debootstrap") is None:
        pytest.skip("needs debootstrap (Debian package of that name)")
    root = tmp_path_factory.mktemp("debian") / "root"
    run("debootstrap", "--variant=minbase", "bookworm", root, ARCHIVE, limit_s=BUILD_S_MAX)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    return root


@pytest.mark.long
def test_it_installs_on_a_bare_debian_touches_nothing_and_leaves_what_matters(bare: Path) -> None:
    build(bare / "root/blocksnap.deb")

    def inside(*argv: str) -> str:
        quiet = ("env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
        return run("chroot", bare, *quiet, *argv)

    inside("apt-get", "update", "-qq")
    said = inside("apt-get", "install", "-qqy", "--no-install-recommends", "/root/blocksnap.deb")
    assert "nothing is protected before" in said
    assert inside("blocksnapctl", "--version").startswith("blocksnapctl ")
    example = "/usr/share/doc/blocksnap/examples/blocksnap.toml"
    assert "2 volumes" in inside("blocksnapctl", "config", "check", "--config", example)
    assert enabled(bare) == set(UNITS)
    assert not (bare / "etc/blocksnap/blocksnap.toml").exists()
    for place in (
        "man/man1/blocksnapctl.1.gz", "man/man5/blocksnap.toml.5.gz", "man/man8/blocksnapd.8.gz",
        "bash-completion/completions/blocksnapctl", "zsh/vendor-completions/_blocksnapctl",
        "fish/vendor_completions.d/blocksnapctl.fish", "doc/blocksnap/rules/blocksnap.rules.yml",
    ):  # fmt: skip
        assert (bare / "usr/share" / place).is_file(), place

    inside("blocksnapd", "init", "/srv/repository", "--keys", "/etc/blocksnap")
    before = sorted(path for path in (bare / "srv/repository").rglob("*"))
    said = inside("apt-get", "purge", "-qqy", "blocksnap")
    assert "kept: /etc/blocksnap" in said
    assert "kept: every repository" in said
    assert sorted(path for path in (bare / "srv/repository").rglob("*")) == before
    assert (bare / "etc/blocksnap/restore.key").is_file()
    assert not (bare / "usr/lib/blocksnap").exists()
    assert enabled(bare) == set()
