"""``blocksnapctl ls`` and ``cp`` as an administrator uses them: one file back out of a point."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING, Any

import pytest

from tests.files.corpus import MKFS_ENVIRONMENT, assert_same, ext_image, make_tree
from tests.flow.kit import MIB, NOBODY, Site

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    shutil.which("mke2fs", path=MKFS_ENVIRONMENT["PATH"]) is None, reason="no mke2fs here"
)


@pytest.fixture
def kept(site: Site) -> Site:
    """A point of an ext4 with a tree in it; the daemon runs on."""
    make_tree(site.folder / "tree", names=50)
    site.set_up()
    ext_image(site.image, site.folder / "tree", "-t", "ext4", size=32 * MIB)
    site.start()
    site.until_done()
    return site


def listed(site: Site, place: str, *words: str, repo: bool = True) -> list[dict[str, Any]]:
    where = ("--repo", str(site.repository)) if repo else ()
    done = site.ctl("ls", place, *words, *where, "--json", key=True)
    assert done.code == 0, done
    return done.documents


def test_looking_and_copying(kept: Site) -> None:
    site, tree = kept, kept.folder / "tree"
    volume = str(site.image)
    (volumes,) = listed(site, f"latest:{volume}:")
    assert [(v["number"], v["kind"], v["readable"]) for v in volumes["volumes"]] == [
        (1, "ext4", True)
    ]
    shown = site.ctl("ls", f"{volume}@latest", key=True)
    assert "ext4" in shown.out
    point = shown.out.splitlines()[1].split()[-1].split(":")[0]
    names = {e["name"] for part in listed(site, f"{point}:/") for e in part["entries"]}
    assert names == {*(os.fsencode(n).decode(errors="replace") for n in os.listdir(tree)),
                     "lost+found"}  # fmt: skip
    for place in (f"latest:{volume}:/odd", f"{volume}@latest:1:/odd"):
        (part,) = listed(site, place, "-l", repo=False)
        (entry,) = part["entries"]
        assert (entry["size"], entry["mode"], entry["links"]) == (70_001, 0o600, 3)
    plain = site.ctl("ls", f"{point}:/link", "-l", key=True)
    assert plain.out.startswith("lrwxrwxrwx")
    assert plain.out.strip().endswith("link -> small")
    done = site.ctl("cp", "-r", f"{point}:/", str(site.folder / "back"), key=True)
    assert done.code == 13, "there is a fifo, which is told"
    assert "left out: a fifo" in done.out
    with pytest.raises(Exception, match="holds no private key"):
        list(site.client.stream("points", point, "files"))
    shutil.rmtree(site.folder / "back" / "lost+found")
    assert_same(tree, site.folder / "back", left_out=("fifo",), whole_ns=False)


def test_without_daemon_configuration_and_rights(kept: Site) -> None:
    """Another user, who has the repository and the key, gets a file as one of their own."""
    site = kept
    site.end()
    os.chmod(site.folder, 0o777)
    for place, folders, files in os.walk(site.repository):
        for name in (place, *(os.path.join(place, n) for n in (*folders, *files))):
            os.chmod(name, 0o755)
    os.chmod(site.keys, 0o755)
    os.chmod(site.keys / "restore.key", 0o644)
    user = NOBODY if os.geteuid() == 0 else ()
    to = site.folder / "mine"
    words = ("--repo", str(site.repository), f"{site.image}@latest:/small", str(to))
    done = site.ctl("cp", *words, key=True, user=user)
    assert done.code == 13
    assert "only root can give files away" in done.out
    assert to.read_bytes() == b"a few bytes\n"
    facts = to.stat()
    assert (stat.S_IMODE(facts.st_mode), os.getxattr(to, "user.one")) == (0o751, b"1" * 40)
    again = site.ctl("cp", *words, key=True, user=user)
    assert again.code == 12
    assert "exists" in again.err
    assert site.ctl("cp", "--overwrite", *words, key=True, user=user).code == 13
    assert_refusals(site, site.folder / "refused")


def assert_refusals(site: Site, to: Path) -> None:
    """What cannot be is refused with its reason, and nothing is written."""
    at, repo = f"{site.image}@latest", ("--repo", str(site.repository))
    done = site.ctl("ls", f"{at}:/no/such", *repo, key=True)
    assert (done.code, "there is no /no/such" in done.err) == (11, True), done
    done = site.ctl("cp", f"{at}:/many", str(to), *repo, key=True)
    assert (done.code, "cp -r" in done.err) == (2, True), done
    assert not to.exists()
    assert site.ctl("ls", f"{at}:/", *repo).code == 77, "it takes the key"
