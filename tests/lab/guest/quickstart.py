"""Guest: does what README.md tells an administrator, on a host as it takes one for granted.

    /dev/ubda   volume group vg0: vg0/home, ext4, mounted at /home
    /dev/ubdb   the disk for COW space, at /mnt/snapshots
    /dev/ubdc   the vault, at /mnt/vault
    /dev/ubdd   a spare disk, /dev/sdx1

The blocks are typed as they stand: all paths are writable here, and for "yesterday 14:05" the
guest's clock is set. Three programs are stood in for: an editor that writes what the README shows,
a systemctl that starts the unit's ExecStart, and a Ctrl-C once an export says where.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.lab.guest import kit
from tests.lab.guest.daemon_kit import bring_loopback_up
from tests.readme import section, with_words

PROJECT = Path(__file__).parents[3]
HOME = Path("/home")
EDITED = Path("/run/lab/tmp/edited.toml")
CONFIG = Path("/etc/blocksnap/blocksnap.toml")
STARTS = re.compile(r"^ExecStart=/usr/bin/(.+)$", re.MULTILINE)
LOG = Path("/run/lab/tmp/blocksnapd.log")
LIMIT_S = 60.0
STAND_INS = """\
editor() { cp "$EDITED" "$1"; }
systemctl() { if [ "$1" = start ]; then "$PYTHON" "$PROGRAM" "$2"; fi; }
blocksnapctl() {
  case " $* " in
    *" export "*)
      env --default-signal=INT blocksnapctl "$@" > exported 2>&1 &
      until grep nbd+unix: exported; do sleep 0.2; kill -0 $!; done
      kill -INT $!
      wait $! || [ $? = 130 ];;
    *) command blocksnapctl "$@";;
  esac
}
"""


def start(unit: str) -> None:
    """Start what a unit starts; return once it can be asked."""
    argv = STARTS.search((PROJECT / f"systemd/{unit}.service").read_text())[1].split()
    said = Path(f"/run/lab/tmp/{unit}.log")
    with said.open("ab") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    until(lambda: "ready" in said.read_text() or process.poll() is not None, said)
    assert process.poll() is None, said.read_text()


def until(condition, log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def typed(text: str) -> str:
    """Type a block of the README; return what was said."""
    try:
        return kit.run("bash", "-euxc", STAND_INS + text)
    except kit.CommandError:
        print(LOG.read_text() if LOG.exists() else "the daemon has said nothing", flush=True)
        raise


def make_writable() -> None:
    """Make /etc, /var/lib and others memory; of /etc all is there as before."""
    kit.run("mount", "--bind", "/etc", "/run/lab/m")
    for place in ("/etc", "/var/lib", "/mnt", "/srv"):
        kit.run("mount", "-t", "tmpfs", "-o", "mode=755", "memory", place)
    for old in Path("/run/lab/m").iterdir():
        if old.name != "blocksnap":  # of this machine, should it have one
            os.symlink(old, f"/etc/{old.name}")
    for made in ("/etc/blocksnap", "/run/blocksnap", "/mnt/spare", "/srv/vm",
                 "/var/lib/blocksnap-receive"):  # fmt: skip
        os.makedirs(made)


def make_disks() -> None:
    kit.make_vg("vg0", "/dev/ubda")
    kit.make_fs("ext4", kit.make_lv("vg0", "home", 64 * kit.MIB), HOME)
    kit.make_fs("ext4", "/dev/ubdb", Path("/mnt/snapshots"))
    kit.make_fs("ext4", "/dev/ubdc", Path("/mnt/vault"))
    os.symlink("/dev/ubdd", "/dev/sdx1")
    (HOME / "etc").mkdir()
    (HOME / "etc/fstab").write_text("what was in fstab\n")
    (HOME / "ballast").write_bytes(os.urandom(4 * kit.MIB))
    Path("/srv/vm/disk.img").write_bytes(os.urandom(kit.MIB))


def day(number: int, clock: str, version: str) -> None:
    """It is that day and time; the volume has that version."""
    today = time.strftime("%Y-%m-%d", time.gmtime(NOW_S + 86400 * number))
    kit.run("date", "--set", f"{today} {clock}")
    (HOME / "version").write_text(version)
    kit.run("sync", "-f", str(HOME))


def version_of(device: str, *options: str) -> str:
    """Return the version in a device or an image."""
    where = Path("/run/lab/tmp/looked-at")
    where.mkdir(exist_ok=True)
    kit.run("mount", *options, device, str(where))
    try:
        return (where / "version").read_text()
    finally:
        kit.run("umount", str(where))


def protect() -> None:
    told = section("Protect a volume")
    EDITED.write_text(told.toml[0] + "\n" + told.toml[1])
    day(-1, "14:04", "first")
    typed(told.commands[0])
    until(lambda: len(points()) == 2, LOG)  # one of the volume, one of the file
    for clock, version in (("14:04", "second"), ("15:00", "third")):
        day(0, clock, version)
        typed("blocksnapctl run vg0/home --wait")
    kit.tell("protected", methods=[point["method"] for point in points()])


def points() -> list[dict]:
    return json.loads(kit.run("blocksnapctl", "--json", "points"))["points"]


def get_back() -> None:
    told = section("Get it back")
    os.chdir("/mnt/spare")
    kit.run("cp", "/etc/blocksnap/restore.key", ".")  # as init says: not on this host
    typed(told.commands[0])
    kit.tell("restored", image=version_of("/mnt/spare/home.img", "-o", "loop"),
             device=version_of("/dev/sdx1"))  # fmt: skip
    kit.run("umount", str(HOME))
    said = typed(told.commands[1])
    typed("blocksnapctl unmount /media; blocksnapctl view vg0/home --end")
    kit.run("mount", "/dev/vg0/home", str(HOME))
    kit.tell("in place", version=(HOME / "version").read_text(), said=said,
             copied=Path("fstab").read_text())  # fmt: skip


def another_host() -> None:
    """The same volume to a receiver, which is this machine under the name of backup1."""
    Path("/etc/hosts").unlink(missing_ok=True)
    Path("/etc/hosts").write_text("127.0.0.1 localhost backup1\n")
    socket.sethostname("db01")
    for key in Path("/etc/blocksnap").glob("*.key"):
        key.unlink()
    settings = (PROJECT / "packaging/examples/receiver/receive.toml").read_text()
    # The disk is small, there is no IPv6, and keys for its maintenance nobody brought.
    settings = with_words(settings, {"10 GiB": "1 MiB", ', "[::]:7420"': ""})
    settings = settings.partition("\n[host.")[0]
    Path("/etc/blocksnap/receive.toml").write_text(settings)
    start("blocksnapd-receive")
    told = section("To another host")
    paired(told.commands[0])
    one_disk = CONFIG.read_text()
    shipped = {'["vault"]': '["backup1"]', 'retention = "standard"\n': ""}
    CONFIG.write_text(with_words(one_disk, shipped) + told.toml[0])
    typed("blocksnapctl reload; until blocksnapctl run vg0/home --wait; do [ $? = 75 ]; done")
    os.makedirs("/srv/elsewhere")
    os.chdir("/srv/elsewhere")
    kit.run("cp", "/etc/blocksnap/restore.key", ".")
    paired("blocksnapd pair-code db01 --role reader\n" + told.commands[1])
    kit.tell("elsewhere", image=version_of("home.img", "-o", "loop"),
             receiver=typed("blocksnapctl --target /var/lib/blocksnap-receive status"))  # fmt: skip


def paired(text: str) -> str:
    """Type a block whose first line shows a code, for which the README has one."""
    first, rest = text.split("\n", 1)
    code = kit.run("bash", "-c", first).split()[0]
    return typed(with_words(rest, {"K7QM-2XPA": code}))


NOW_S = time.time()


def main() -> None:
    make_writable()
    bring_loopback_up()
    make_disks()
    protect()
    get_back()
    another_host()


os.environ |= {
    "PATH": f"{PROJECT}/.venv/bin:{os.environ['PATH']}", "PYTHON": sys.executable,
    "PROGRAM": __file__, "EDITED": str(EDITED),
    "HOME": "/run/lab/tmp",
}  # fmt: skip
if len(sys.argv) > 1:
    start(sys.argv[1])
else:
    main()
