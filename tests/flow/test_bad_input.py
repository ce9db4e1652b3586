"""What goes wrong around the daemon: each gets its cause, what it means and what to do next.

None of it ends the daemon, harms a point, or keeps another volume from being protected.
"""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.flow.kit import MIB, NOBODY, Site, explained, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LVM_VOLUME = """
[cow.spare]
file = "{file}"
vg = "vg0"
[volume."vg0/x"]
"""
OTHER_VOLUME = '\n[volume."{other}"]\n'


def mount(*words: str) -> None:
    """Mount; a container may not let us, which is said aloud."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    found = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"this machine does not let us mount: {found.stderr.strip()}")


@contextmanager
def mounted(place: Path, *words: str) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    mount(*words, str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def small_disk(size: str) -> Sequence[str]:
    return ("-t", "tmpfs", "-o", f"size={size}", "tmpfs")


# --- configuration ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('every = "1h"', 'evry = "1h"', ["defaults.evry", "did you mean 'every'?"]),
        ('every = "1h"', "every = 3600", ["defaults.every", "like '5m'"]),
        ("[daemon]", "[deamon]", ["deamon", "did you mean 'daemon'?"]),
        ("schema = 1", "schema = 2", ["schema", "cannot read"]),
        ("[metrics]", "[metrics", ["not TOML"]),
        ("url = ", "url = 'ftp://x' #", ["target.near.url", "local directory"]),
        ("source_key", "sourcekey", ["target.near.sourcekey", "'source_key'"]),
        ('[volume."/', '[volume."x/y/', ["neither VG/LV"]),
    ],
)
def test_a_wrong_configuration(site: Site, before: str, after: str, said: list[str]) -> None:
    """File, line, key, and what was meant; nothing is made."""
    site.write_config()
    text = site.config.read_text()
    line = text[: text.index(before)].count("\n") + 1
    site.config.write_text(text.replace(before, after, 1))
    done = site.daemon_program("--config", str(site.config))
    told(done, 78, f"{site.config}:{line}:", *said, "Nothing was started")
    assert not site.socket.exists()
    assert not (site.state / "events.jsonl").exists()


def test_a_group_that_this_host_does_not_have(site: Site) -> None:
    site.write_config()
    text = site.config.read_text()
    site.config.write_text(text.replace("[control]", '[control]\nread_group = "no-such"'))
    done = site.daemon_program("--config", str(site.config))
    told(done, 78, "control.read_group", "no group 'no-such'", "groupadd")


def test_no_configuration(site: Site) -> None:
    told(
        site.ctl("config", "check", "--config", str(site.config)),
        78,
        "there is no configuration file",
    )
    told(site.daemon_program("--config", str(site.config)), 78, "there is no configuration file")


# --- the volume ------------------------------------------------------------------------------


def trouble_with(site: Site, code: str, *said: str, name: str = "", exit_code: int = 1) -> None:
    """Assert that a run fails as it should, and that status shows it to who looks."""
    name = name or str(site.image)
    done = site.ctl("run", name, "--wait")
    told(done, exit_code, f"[{code}]", *said)
    volume = site.volume(name)
    assert volume["state"] in {"unprotected", "failing"}
    explained(volume["causes"][0], code, *said)
    events = [e for e in site.client.stream("events", since="0") if e["type"] == "run-failed"]
    assert events[-1]["severity"] == "error"
    assert events[-1]["data"]["code"] == code


def test_a_volume_that_is_missing_or_something_else(site: Site) -> None:
    """Each is told; the other volume is protected all the while; it recovers by itself."""
    other = site.folder / "other.img"
    other.write_bytes(b"x" * 8192)
    site.set_up(size=MIB)
    site.image.unlink()
    site.write_config(OTHER_VOLUME.format(other=other))
    site.start()
    trouble_with(site, "E-VOLUME", "No such file or directory", "Bring it back")
    shown = site.ctl("status", str(site.image)).out
    assert "UNPROTECTED" in shown
    assert f"{site.image} cannot be read: No such file or directory" in shown
    assert "Bring it back, or correct its path in the configuration.  [E-VOLUME]" in shown
    site.image.mkdir()
    trouble_with(site, "E-VOLUME", "is neither a file nor a block device")
    site.image.rmdir()
    site.image.touch()
    trouble_with(site, "E-VOLUME", "is empty")
    assert site.until_done(str(other))["state"] == "protected"
    site.write_image((0, b"here again"), size=MIB)
    assert site.ctl("run", str(site.image), "--wait").code == 0
    assert site.volume()["state"] == "protected"
    assert site.volume()["causes"] == []
    site.image.rename(site.folder / "away.img")
    trouble_with(site, "E-VOLUME", "No such file or directory")
    assert site.restored(f"latest:{site.image}")[:10] == b"here again"


def test_a_volume_that_may_not_be_read(plain_site: Site) -> None:
    plain_site.set_up(size=MIB)
    os.chmod(plain_site.image, 0o000)
    if os.geteuid() == 0:
        os.chown(plain_site.image, 0, 0)
    plain_site.start()
    trouble_with(plain_site, "E-NOT-ALLOWED", "Permission denied", "Run as", exit_code=77)


def test_an_lvm_volume_where_there_is_no_device_mapper(site: Site) -> None:
    """The cause is told, nothing of the host is changed, the other volume is protected."""
    try:
        os.close(os.open("/dev/mapper/control", os.O_RDWR))
    except OSError:
        pass
    else:
        pytest.skip("this machine has device-mapper; the lab's tests take over here")
    site.set_up(size=MIB)
    file = site.folder / "cow.img"
    site.write_config(LVM_VOLUME.format(file=file))
    site.start()
    trouble_with(site, "E-DM", "There is no device-mapper here", "driver 'scan'", name="vg0/x")
    file.write_bytes(bytes(MIB))
    trouble_with(site, "E-DM", "There is no device-mapper here", name="vg0/x")
    loops = Path("/sys/block").glob("loop*/loop/backing_file")
    assert str(file) not in [text.read_text().strip() for text in loops]
    assert site.until_done()["state"] == "protected"
    doctor = site.ctl("doctor", "--config", str(site.config))
    assert doctor.code == 1
    assert "[E-DM]" in doctor.out
    assert "1 thing is not right" in doctor.out


# --- the repository --------------------------------------------------------------------------


def swapped(place: Path, other: Path) -> Callable[[], None]:
    """Put ``other`` (nothing: an empty directory) where ``place`` was; return the way back."""
    aside = place.with_name(f"{place.name}.aside")
    place.rename(aside)
    if other.exists():
        shutil.copytree(other, place)

    def back() -> None:
        shutil.rmtree(place, ignore_errors=True)
        aside.rename(place)

    return back


def edited(file: Path, old: bytes, new: bytes) -> Callable[[], None]:
    """Replace bytes of a file; return the way back."""
    data, mode = file.read_bytes(), file.stat().st_mode
    assert old in data
    file.chmod(0o600)
    file.write_bytes(data.replace(old, new, 1))

    def back() -> None:
        file.write_bytes(data)
        file.chmod(mode)

    return back


def troubles(site: Site) -> list[tuple[Callable[[], Callable[[], None]], str, str, int]]:
    """What can be wrong with a repository: how to bring it about, code, words, exit code."""
    empty, other = site.folder / "empty", site.folder / "another"
    empty.mkdir()
    done = site.ctl("init", str(other), "--keys", str(site.folder / "other-keys"))
    assert done.code == 0, done
    marker = site.repository / "repo.json"
    return [
        (lambda: swapped(site.repository, Path("/nowhere")), "E-REPO-MISSING", "Mount it", 1),
        (lambda: swapped(site.repository, empty), "E-REPO-MISSING", "there is no repository", 1),
        (lambda: swapped(site.repository, other), "E-REPO-MISSING", "the key is of", 1),
        (lambda: edited(marker, b'"format": 1', b'"format": 7'), "E-REPO-FORMAT", "format 7", 14),
        (lambda: edited(marker, b"blocksnap", b"blacksnap"), "E-CHECKSUM", "repo.json", 14),
        (lambda: edited(marker, b"{", b""), "E-REPO-FORMAT", "Bring repo.json back", 14),
    ]


def test_a_repository_that_is_not_there_or_another_one(site: Site) -> None:
    """At start and later: told each time, nothing written into what is not ours, and it mends."""
    first = site.set_up(size=MIB)
    found = troubles(site)
    key = site.keys / "source.key"
    wrong_key = (site.folder / "other-keys" / "source.key").read_bytes()
    at_start = [
        (lambda: edited(key, key.read_bytes(), wrong_key), "E-REPO-MISSING", "the key is of", 1),
        (lambda: edited(key, b'"source"', b'"sauce"'), "E-REPO-FORMAT", "source.key", 14),
        (lambda: edited(key, key.read_bytes(), b""), "E-REPO-FORMAT", "another copy of", 14),
    ]
    back = found[0][0]()
    site.start()
    told(site.ctl("points"), 1, "are not known", "--repo URL")
    back()
    for bring_about, code, said, exit_code in [*found, *at_start]:
        back = bring_about()
        trouble_with(site, code, said, exit_code=exit_code)
        back()
    assert site.ctl("run", str(site.image), "--wait").code == 0
    for bring_about, code, said, exit_code in found:
        back = bring_about()
        before = tree(site.repository)
        trouble_with(site, code, said, exit_code=exit_code)
        assert tree(site.repository) == before
        back()
    assert site.ctl("run", str(site.image), "--wait").code == 0
    assert site.volume()["state"] == "protected"
    assert [p["method"] for p in site.points()] == ["first", "compare"]
    assert site.restored(f"latest:{site.image}") == first


def tree(top: Path) -> list[str]:
    return sorted(map(str, top.rglob("*")))


def test_a_repository_unmounted_under_the_daemon(site: Site) -> None:
    """The empty mount point stays empty; mounted again, it goes on without a full copy."""
    first = site.set_up(size=MIB)
    with mounted(site.folder / "vault", "--bind", str(site.repository)):
        vault = site.folder / "vault"
        site.write_config(repository=vault)
        site.start()
        site.until_done()
        subprocess.run(["umount", str(vault)], check=True)
        trouble_with(site, "E-REPO-MISSING", "there is no repository", "Mount it")
        assert list(vault.iterdir()) == []
        mount("--bind", str(site.repository), str(vault))
        site.write_image((0, b"new"))
        assert site.ctl("run", str(site.image), "--wait").code == 0
        assert [p["method"] for p in site.points()] == ["first", "compare"]
        assert site.points()[1]["changed_bytes"] == 4096
        assert site.restored(site.points()[0]["id"]) == first


def test_a_volume_that_another_writer_holds(site: Site) -> None:
    first = site.set_up(size=MIB)
    site.start()
    site.until_done()
    (lock,) = site.repository.glob("v/*/.lock")
    with open(lock, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        trouble_with(site, "E-BUSY", "another writer is at work", exit_code=75)
    assert site.ctl("run", str(site.image), "--wait").code == 0
    assert site.restored(site.points()[0]["id"]) == first


# --- no room ---------------------------------------------------------------------------------


def no_room_in_the_middle(site: Site, first: bytes, give_room: Callable[[], Any]) -> None:
    """A pack that does not fit: a failed run, whole points, and a right one once there is room."""
    site.until_done()
    before = tree(site.repository)
    second = Random(2).randbytes(12 * MIB)
    site.write_image((0, second))
    trouble_with(site, "E-REPO-FULL", "no room", "earlier points are untouched", "Free room")
    assert tree(site.repository) == before  # not even half a pack is left
    assert site.restored(f"latest:{site.image}") == first
    give_room()
    assert site.ctl("run", str(site.image), "--wait").code == 0
    assert site.restored(f"latest:{site.image}") == second
    assert [p["seq"] for p in site.points()] == [1, 2]


def test_a_repository_on_a_full_disk(site: Site) -> None:
    with mounted(site.folder / "vault", *small_disk("6m")):
        site.repository = site.folder / "vault" / "repository"
        first = site.set_up(size=12 * MIB, used=MIB)
        site.start()
        no_room_in_the_middle(
            site, first, lambda: mount("-o", "remount,size=64m", str(site.folder / "vault"))
        )
        site.end()


def test_a_repository_that_takes_no_large_file(site: Site) -> None:
    """The same without root: a limit of the daemon's process is where it ends."""
    first = site.set_up(size=12 * MIB, used=MIB)
    site.start(wrapper=("prlimit", f"--fsize={4 * MIB}:unlimited"))

    def give_room() -> None:
        assert site.daemon is not None
        free = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(site.daemon.pid, resource.RLIMIT_FSIZE, free)

    no_room_in_the_middle(site, first, give_room)


def test_a_full_state_directory(site: Site) -> None:
    with mounted(site.state, *small_disk("128k")):
        first = site.set_up(size=24 * MIB, used=MIB)
        site.start()
        site.until_done()
        site.write_image((0, Random(2).randbytes(24 * MIB)))
        trouble_with(site, "E-HOST", "state directory", "earlier points are untouched", "room")
        assert site.restored(f"latest:{site.image}") == first
        mount("-o", "remount,size=16m", str(site.state))
        assert site.ctl("run", str(site.image), "--wait").code == 0
        site.end()


# --- the daemon's own files ------------------------------------------------------------------


def test_a_state_directory_that_cannot_be_one(site: Site) -> None:
    site.set_up(size=MIB)
    site.state.write_text("a file")
    done = site.daemon_program("--config", str(site.config))
    told(done, 1, f"the state directory {site.state} cannot be used", "[daemon] state_dir")


def test_damaged_state(site: Site) -> None:
    """A journal, fingerprints and an event log that are lost cost time; an id is asked for."""
    first = site.set_up(size=MIB)
    site.start()
    site.until_done()
    site.end()
    (volume,) = (site.state / "volumes").iterdir()
    (volume / "journal").write_bytes(b"garbage")
    (volume / "points.jsonl").write_bytes(b'{"id": 7}\n[]\nhalf a li')
    shutil.rmtree(volume / "fingerprints")
    with open(site.state / "events.jsonl", "ab") as file:
        file.write(b'{"torn')
    site.start()
    assert site.ctl("run", str(site.image), "--wait").code == 0
    kinds = [e["type"] for e in site.ctl("events", "--json").documents]
    assert "journal-lost" in kinds
    assert [p["seq"] for p in site.points()] == [1, 2]
    assert site.points()[1]["reason"] == "fingerprints-gone"
    assert site.restored(site.points()[0]["id"]) == first
    site.end()
    (volume / "id").write_bytes(b"\xff\xfe")
    site.start()
    trouble_with(site, "E-STATE", "does not hold the id", "from a copy", exit_code=14)


# --- who asks --------------------------------------------------------------------------------


def test_no_daemon(site: Site) -> None:
    for words in (["status"], ["run", "/x"], ["points"], ["events"], ["verify", "--key", "/x"]):
        told(site.ctl(*words), 10, "no daemon answers")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_somebody_who_may_not(site: Site) -> None:
    """The socket keeps others out, and where its mode is wrong, the daemon does."""
    site.set_up(size=MIB)
    site.start()
    site.until_done()
    told(site.ctl("status", user=NOBODY), 77, "you may not connect to")
    os.chmod(site.socket.parent, 0o755)
    os.chmod(site.socket, 0o666)
    told(site.ctl("status", user=NOBODY), 77, "user id 65534 may not look", "read_group")
    told(site.ctl("run", str(site.image), user=NOBODY), 77, "may not change", "admin_group")
    assert len(site.points()) == 1


def test_what_is_not_there(site: Site) -> None:
    site.set_up(size=MIB)
    site.start()
    site.until_done()
    told(site.ctl("run", "vg0/nothing"), 11, "no volume 'vg0/nothing' is configured")
    told(site.ctl("show", "pffff"), 11, "no point's id begins with 'pffff'")
    told(site.ctl("cancel", "r0"), 11, "there is no run 'r0'")
    told(site.ctl("show", f"{site.image}@1999-01-01T00:00"), 11, "no point as old as")
    told(site.ctl("show", f"{site.image}@whenever"), 2, "is no time")


# --- keys and damage -------------------------------------------------------------------------


def test_keys_that_do_not_open(site: Site) -> None:
    site.set_up(size=MIB)
    site.start()
    point = site.until_done()["last_point"]["id"]
    other = site.folder / "other"
    assert site.ctl("init", str(other), "--keys", str(other) + "-keys").code == 0
    garbage = site.folder / "garbage.key"
    garbage.write_bytes(b'{"kind": "restore"')
    to = site.folder / "restored.img"
    for key, code, said in [
        (site.folder / "missing.key", 77, "cannot read the key"),
        (site.keys / "source.key", 77, "this is a source.key"),
        (garbage, 14, "is not a JSON object"),
        (Path(f"{other}-keys/restore.key"), 1, "Mount the right disk, or name the right key"),
    ]:
        done = site.ctl("restore", point, "--to", str(to), "--key", str(key))
        told(done, code, said, "Nothing was read or written")
    told(site.ctl("points", "--repo", str(site.repository)), 77, "takes its private key")
    assert not to.exists()


def test_a_damaged_pack(site: Site) -> None:
    """The restore says so, leaves nothing that looks like an image, and others are whole."""
    first = site.set_up(size=8 * MIB, used=2 * MIB)
    site.start()
    site.until_done()
    packs = site.packs()
    site.write_image((4 * MIB, Random(2).randbytes(3 * MIB)))
    site.run()
    (pack,) = site.packs() - packs
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    whole, damaged = (p["id"] for p in site.points())
    to = site.folder / "restored.img"
    before = sorted(os.listdir(site.folder))
    done = site.ctl("restore", damaged, "--to", str(to), key=True)
    told(done, 14, pack.name, "repository is untouched")
    assert sorted(os.listdir(site.folder)) == before
    told(site.ctl("verify", key=True), 14, "restore from another point")
    assert site.restored(whole) == first


def test_a_damaged_point(site: Site) -> None:
    """Whoever asks for the newest gets the one before it, and is told."""
    first = site.set_up(size=MIB)
    site.start()
    site.until_done()
    site.write_image((0, b"second"))
    site.run()
    back = edited(site.point_objects()[1], site.point_objects()[1].read_bytes()[-9:], bytes(9))
    damaged = site.points()[1]["id"]
    told(site.ctl("restore", damaged, "--to", str(site.folder / "x"), key=True), 14, damaged)
    repo = ("--repo", str(site.repository))
    done = site.ctl("show", f"latest:{site.image}", *repo, "--json", key=True)
    assert done.documents[0]["seq"] == 1
    assert f"damaged: {damaged}" in done.documents[0]["note"]
    assert site.restored(f"latest:{site.image}", *repo) == first
    told(site.ctl("verify", *repo, key=True), 14)
    # The next point is full, so that protection goes on; who looks is told why.
    site.write_image((0, b"third!"))
    done = site.ctl("run", str(site.image), "--wait")
    assert (done.code, "damaged" in done.out) == (13, True)
    assert site.restored(f"latest:{site.image}", *repo) == site.image.read_bytes()
    back()
    assert site.restored(damaged, *repo)[:6] == b"second"
    assert site.ctl("run", str(site.image), "--wait").code == 0
