"""Other people's NBD clients against ours: libnbd's, qemu's and fio."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.export.serving import KIB, MIB, Served, Shelf, patchy, serving
from tests.restore.memory_image import MemoryImage

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = patchy(24 * MIB, 11, piece=200 * KIB) + b"tail" * 128


@pytest.fixture(autouse=True)
def _installed() -> None:
    lacks = [p for p in ("nbdinfo", "nbdcopy", "qemu-img", "qemu-io", "fio") if not shutil.which(p)]
    if not lacks:
        return
    sentence = f"NBD clients are missing: {', '.join(lacks)} (make setup)"
    if os.environ.get("BLOCKSNAP_LAB_REQUIRED"):
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


def run(*argv: str, code: int = 0) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, (argv, done)
    return done.stdout if not code else done.stderr


def holes(extents: list[tuple[int, int, bool]]) -> list[tuple[int, int]]:
    """Return (start, end) of what is zero, neighbours joined."""
    found: list[tuple[int, int]] = []
    for start, length, is_zero in extents:
        if is_zero and found and found[-1][1] == start:
            found[-1] = (found[-1][0], start + length)
        elif is_zero:
            found.append((start, start + length))
    return found


def image_holes() -> list[tuple[int, int]]:
    extents = MemoryImage(CONTENT).data_extents()
    edges = [0, *(e for pair in zip(extents.starts.tolist(), extents.ends.tolist(), strict=True)
                  for e in pair), len(CONTENT)]  # fmt: skip
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(start, end) for start, end in pairs if start < end]


def test_nbdinfo_tells_what_is_there():
    with serving(Shelf({"vg0/home@14:05": MemoryImage(CONTENT), "b": MemoryImage(b"x")})) as served:
        found = json.loads(run("nbdinfo", "--json", served.uri("vg0/home@14:05")))
        export = found["exports"][0]
        assert export["export-size"] == len(CONTENT)
        assert export["description"] == "about vg0/home@14:05"
        assert (export["is_read_only"], export["can_multi_conn"], export["can_df"]) == (True,) * 3
        assert (export["block_size_minimum"], export["block_size_maximum"]) == (1, 32 * MIB)
        listed = json.loads(run("nbdinfo", "--json", "--list", served.uri()))
        assert [e["export-name"] for e in listed["exports"]] == ["vg0/home@14:05", "b"]
        assert "No such file" in run("nbdinfo", served.uri("none"), code=1)
        said = run("qemu-img", "info", served.uri("none"), code=1)
        assert "there is no 'none' here. Look at the list." in said


def test_nbdinfo_and_qemu_map_show_every_hole():
    with serving(CONTENT) as served:
        found = json.loads(run("nbdinfo", "--map", "--json", served.uri()))
        told = [(e["offset"], e["length"], e["type"] == 3) for e in found]
        assert sum(length for _, length, _ in told) == len(CONTENT)
        assert holes(told) == image_holes()
        found = json.loads(run("qemu-img", "map", "--output=json", "-f", "raw", served.uri()))
        told = [(e["start"], e["length"], e["zero"]) for e in found]
        assert holes(told) == image_holes()


def test_nbdcopy_and_qemu_convert_copy_every_byte(tmp_path: Path):
    with serving(CONTENT, tcp=True) as served:
        for uri in (served.uri(), f"nbd://127.0.0.1:{served.port}"):
            copied, converted = tmp_path / "copied.img", tmp_path / "converted.qcow2"
            run("nbdcopy", uri, str(copied))
            assert copied.read_bytes() == CONTENT
            assert copied.stat().st_blocks * 512 < len(CONTENT) * 0.7  # sparse where it is zero
            run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, str(converted))
            run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", uri, str(converted))
            changed = bytearray(CONTENT)
            changed[5 * MIB] ^= 1
            copied.write_bytes(changed)
            run("qemu-img", "compare", "-f", "raw", "-F", "raw", uri, str(copied), code=1)


def test_many_copies_at_once(tmp_path: Path):
    with serving(CONTENT) as served:
        places = [tmp_path / f"copy{n}" for n in range(6)]
        copying = [
            subprocess.Popen(["nbdcopy", "--connections=8", served.uri(), str(place)])
            for place in places
        ]
        assert [process.wait(60) for process in copying] == [0] * 6
        assert all(place.read_bytes() == CONTENT for place in places)


def fio(served: Served, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        ["fio", "--output-format=json", "--ioengine=nbd", f"--uri={served.uri()}", "--name=job",
         *options], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    return dict(json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0])


def test_fio_reads_at_random():
    with serving(CONTENT) as served:
        job = fio(
            served, "--rw=randread", "--bs=4k", "--size=16m", "--iodepth=16", "--number_ios=800"
        )
        assert (job["error"], job["read"]["total_ios"]) == (0, 800)


def test_fio_verifies_what_it_wrote_to_an_overlay(tmp_path: Path):
    """Random, unaligned and rewritten, with trims and flushes; fio reads it all back."""
    with serving(CONTENT, overlays=str(tmp_path)) as served:
        for options in (
            ("--rw=randwrite", "--bsrange=512-128k", "--bs_unaligned=1", "--iodepth=16"),
            ("--rw=write", "--bs=1m", "--iodepth=4", "--fsync=4"),
        ):
            job = fio(
                served,
                "--size=12m",
                "--verify=crc32c",
                "--verify_fatal=1",
                "--verify_state_save=0",
                *options,
            )
            assert job["error"] == 0
            assert job["read"]["total_ios"] > 0  # the verification
        assert served.ask(lambda: served.server.open_count) >= 1


def test_qemu_writes_trims_and_reads_back(tmp_path: Path):
    with serving(CONTENT, overlays=str(tmp_path), idle_s=0.0) as served:
        steps = ["write -P 0x61 1000 70000", "discard 512k 64k", "write -z 2m 1m", "flush",
                 "read -P 0x61 1000 70000", "read -P 0 512k 64k", "read -P 0 2m 1m",
                 "write -P 7 9m 9m", "read -P 7 9m 9m"]  # fmt: skip
        words = [word for step in steps for word in ("-c", step)]
        said = run("qemu-io", "-f", "raw", *words, served.uri())
        assert "failed" not in said.lower()
        served.until(lambda: served.server.connections == 0)
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", served.uri(), str(file(tmp_path)))


def file(folder: Path) -> Path:
    place = folder / "content.img"
    place.write_bytes(CONTENT)
    return place


def test_qemu_may_not_write_to_a_read_only_export():
    with serving(CONTENT) as served:
        said = run("qemu-io", "-f", "raw", "-c", "write 0 512", served.uri(), code=1)
        assert "read-only" in said.lower() or "permission" in said.lower()


def test_qemu_boots_its_own_layer_over_it(tmp_path: Path):
    """A qcow2 file over the export, written to and compared: how a machine is started from it."""
    with serving(CONTENT) as served:
        layer = str(tmp_path / "layer.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", served.uri(), layer)
        data = random.Random(2).randrange(256)
        run("qemu-io", "-c", f"write -P {data} 3m 100k", "-c", f"read -P {data} 3m 100k", layer)
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", served.uri(), str(file(tmp_path)))


def test_tls_with_certificates_on_both_sides(certificates, tmp_path: Path):
    with serving(CONTENT, tcp=True, tls=certificates.server_context()) as served:
        place = f"127.0.0.1:{served.port}/"
        uri = f"nbds://{place}?tls-certificates={certificates.folder}"
        assert json.loads(run("nbdinfo", "--json", uri))["TLS"] is True
        copied = tmp_path / "copied.img"
        run("nbdcopy", uri, str(copied))
        assert copied.read_bytes() == CONTENT
        assert "not supported" in run("nbdinfo", f"nbd://{place}", code=1)
        stranger = tmp_path / "stranger"
        stranger.mkdir()
        shutil.copy(certificates.authority, stranger)
        run("nbdinfo", f"nbds://{place}?tls-certificates={stranger}", code=1)
