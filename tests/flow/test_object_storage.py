"""The main job with a bucket as the target: the real programs and a real SeaweedFS."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.flow.kit import told

if TYPE_CHECKING:
    from tests.flow.kit import Site
    from tests.servers.seaweed import SeaweedFs

KEPT = "all for 1s"


@pytest.fixture
def url(site: Site, seaweed: SeaweedFs, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in a bucket that ``site`` ships to; the operator may do everything there."""
    url = seaweed.url()
    done = site.ctl("init", url, "--keys", str(site.keys), "--credentials", seaweed.admin)
    assert done.code == 0, done
    site.write_config()
    text = site.config.read_text()
    named = f'url = "{url}"\ncredentials = "{seaweed.admin}"'
    site.config.write_text(text.replace(f'url = "{site.repository}"', named))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", seaweed.admin)
    return url


def change(site: Site, seed: int) -> bytes:
    """Write here and there; return the whole content."""
    dice = random.Random(seed)
    for _ in range(5):
        site.write_image((dice.randrange(20 << 20), dice.randbytes(9000)))
    return site.image.read_bytes()


def run(site: Site) -> str:
    """Make a point; return its id."""
    done = site.ctl("run", str(site.image), "--wait")
    assert done.code == 0, done
    return str(site.points()[-1]["id"])


def test_protect_maintain_verify_and_restore(
    site: Site, seaweed: SeaweedFs, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write_image((0, random.Random(1).randbytes(20 << 20)), size=24 << 20)
    site.start()
    site.until_done()
    contents = {site.points()[-1]["id"]: site.image.read_bytes()}
    for seed in range(7):
        content = change(site, seed)
        contents[run(site)] = content
    assert len(contents) == 8
    names = seaweed.store(url).list_names("v/")
    assert sum(name.endswith(".pt") for name in names) == 8
    key = str(site.keys / "maintenance.key")
    maintain = ("maintain", url, "--key", key, "--credentials", seaweed.admin)
    done = site.daemon_program(*maintain)
    assert done.code == 0, done
    assert "the structure is whole" in done.out
    verified = site.ctl("--repo", url, "verify", str(site.image), "--data", "100%", key=True)
    assert verified.code == 0, verified
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", seaweed.reader)  # enough to give back
    restored = site.folder / "restored.img"
    for point, content in list(contents.items())[::3]:
        restored.unlink(missing_ok=True)
        done = site.ctl("--repo", url, "restore", point, "--to", str(restored), key=True)
        assert done.code == 0, done
        assert restored.read_bytes() == content
    done = site.daemon_program(*maintain, "--keep", KEPT)
    assert done.code == 0, done
    assert "nothing was forgotten" in done.out  # more than 30 % at once takes a yes
    content = change(site, 9)
    run(site)
    assert site.restored(f"latest:{site.image}") == content


def test_a_bucket_that_goes_away_and_comes_back(
    site: Site, own_seaweed: SeaweedFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is killed costs a cycle, which is told; the next one makes its point."""
    url = own_seaweed.url()
    done = site.ctl("init", url, "--keys", str(site.keys), "--credentials", own_seaweed.admin)
    assert done.code == 0, done
    site.write_image((0, random.Random(1).randbytes(3 << 20)), size=4 << 20)
    site.write_config('retry = { first = "1s", max = "1s" }\n')
    text = site.config.read_text()
    named = f'url = "{url}"\ncredentials = "{own_seaweed.admin}"'
    site.config.write_text(text.replace(f'url = "{site.repository}"', named))
    site.start()
    site.until_done()
    content = site.image.read_bytes()[: 1 << 20] + b"x" * (3 << 20)
    site.write_image((1 << 20, b"x" * (3 << 20)))
    own_seaweed.kill()
    started = site.client.post("runs", body={"kind": "cycle", "volume": str(site.image)})
    own_seaweed.start()
    site.until(lambda: len(site.points()) >= 2)
    assert started["id"]
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", own_seaweed.reader)
    assert site.restored(f"latest:{site.image}") == content


def test_wrong_credentials_are_told(site: Site, seaweed: SeaweedFs, url: str) -> None:
    done = site.ctl("init", seaweed.url(), "--keys", str(site.folder / "k"),
                    "--credentials", seaweed.reader)  # fmt: skip
    told(done, 77, "not allowed", "packaging/s3")
    done = site.ctl("init", seaweed.url(), "--keys", str(site.folder / "k"),
                    "--credentials", "/nowhere")  # fmt: skip
    told(done, 77, "no credentials", "/nowhere")
    assert not (site.folder / "k").exists()
    done = site.daemon_program("maintain", url)
    told(done, 2, "takes one URL and its --key")
