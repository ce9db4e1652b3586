"""The command line: verbs and options. Pure."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from blocksnapctl.operating_arguments import PASSED_ON, operating
from blocksnapd import __version__
from blocksnapd.control.messages import DEFAULT_SOCKET, SOCKET_VARIABLE
from blocksnapd.units import parse_duration, parse_share

if TYPE_CHECKING:
    from collections.abc import Sequence

_VALUED: Final = ("--socket", "--repo", "--timeout", "--target")

EPILOG: Final = """\
VOLUME is VG/LV or an absolute path. POINT is the start of an id, latest:VOLUME, VOLUME@latest or
VOLUME@TIME, the newest point not after TIME. TIME is 14:05, 'yesterday 14:05', 2026-11-22 (when it
began), 2026-11-22T14:05, 2026-11-22T14:05+01:00 or '90m ago', here in this machine's zone (see TZ)
unless one is given. VOLUME --at TIME is the same, VOLUME --before TIME the newest strictly before.

exit codes (check has its own): 0 done, 1 failed, 2 usage, 10 daemon not reachable, 11 not
found, 12 refused by a guard, 13 done with warnings, 14 data does not match its checksum,
75 busy: try again, 77 not allowed, 78 configuration invalid, 124 wait timed out, 130 interrupted
"""


def passed_on(argv: Sequence[str]) -> list[str]:
    """Return what to start the daemon program with; empty when the verb is not one of its.

    It gets the rest of the line as it is, and also --json and --plain that stand before the verb.
    The status of a receiver's root, ``--target ROOT status``, is its ``receive --status``.
    """
    position = 0
    while position < len(argv) and argv[position].startswith("-"):
        position += 2 if argv[position] in _VALUED else 1
    before, rest = argv[:position], list(argv[position:])
    if rest[:1] == ["status"] and "--target" in before[:-1]:
        root = before[before.index("--target") + 1]
        rest = ["receive", "--status", "--root", root, *rest[1:]]
    elif not rest or rest[0] not in PASSED_ON:
        return []
    return [*rest, *(how for how in ("--json", "--plain") if how in before)]


def parse(argv: Sequence[str], *, socket_path: str | None) -> argparse.Namespace:
    """Return the parsed line; ``socket_path`` is the environment's.

    Raises:
        SystemExit: 2 after a complaint, 0 after --help or --version.
    """
    parser = make_parser(socket_path or DEFAULT_SOCKET)
    found = parser.parse_args(argv)
    if found.target is not None:
        parser.error("--target is for a receiver: --target ROOT status, in that order")
    return found


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _share(text: str) -> float:
    try:
        return parse_share(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _globals(parser: argparse.ArgumentParser, *, socket_path: str | None) -> None:
    """Add the options that stand before or after the verb; after it they have no default."""
    is_top = socket_path is not None
    off = False if is_top else argparse.SUPPRESS
    none = None if is_top else argparse.SUPPRESS
    add = parser.add_argument
    add("--json", action="store_true", default=off, help="one JSON document, or JSON lines")
    add("--plain", action="store_true", default=off, help="fields with tabs between, no heading")
    add("-q", "--quiet", action="store_true", default=off, help="data and errors only")
    add("-v", "--verbose", action="store_true", default=off, help="say more")
    add("--no-color", action="store_true", default=off, help="no colours (also: NO_COLOR)")
    add("-y", "--yes", action="store_true", default=off, help="do what would be asked about")
    add(
        "--socket",
        metavar="PATH",
        default=socket_path if is_top else argparse.SUPPRESS,
        help=f"the daemon's socket (also: {SOCKET_VARIABLE}; default {DEFAULT_SOCKET})",
    )
    add(
        "--repo",
        metavar="URL",
        default=none,
        help="read this repository without any running daemon or configuration",
    )
    add("--timeout", metavar="TIME", type=_duration, default=none,
        help="wait no longer than this, like 30s or 10m")  # fmt: skip


def _target_option(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--target", dest="of_target", metavar="NAME", help=text)


def _place_options(parser: argparse.ArgumentParser) -> None:
    _time_options(parser)
    _target_option(parser, "of several the one to read from (default: one that answers)")


def _time_options(parser: argparse.ArgumentParser) -> None:
    times = parser.add_mutually_exclusive_group()
    times.add_argument("--at", metavar="TIME", help="with a VOLUME for POINT: as of then")
    times.add_argument("--before", metavar="TIME", help="with a VOLUME: strictly before then")


def _key_options(parser: argparse.ArgumentParser, *, is_needed: bool) -> None:
    parser.add_argument("--key", metavar="FILE", required=is_needed, help="the private key's file")
    parser.add_argument(
        "--passphrase-file", metavar="FILE", help="take the key's passphrase from here, do not ask"
    )


def make_parser(socket_path: str) -> argparse.ArgumentParser:
    """Return the parser; the manual page is made from it, too."""
    parser = argparse.ArgumentParser(
        prog="blocksnapctl",
        description="Look at and steer blocksnapd: restore points for block volumes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _globals(parser, socket_path=socket_path)
    parser.add_argument("--version", action="version", version=f"blocksnapctl {__version__}")
    parser.add_argument(
        "--target", metavar="ROOT", help="with status, on a receiver: all that it keeps there"
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, text: str, *aliases: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(
            name, help=text, description=text, aliases=aliases, allow_abbrev=False
        )
        _globals(added, socket_path=None)
        added.set_defaults(verb=name)
        return added

    _looking(verb)
    _doing(verb)
    _files(verb)
    _keeping(verb)
    operating(verb)
    return parser


def _looking(verb: _Verb) -> None:
    status = verb("status", "Are the volumes protected; if not, why and what next?")
    status.add_argument("volumes", nargs="*", metavar="VOLUME")
    status.add_argument("--watch", action="store_true", help="anew every 2 s, until Ctrl-C")
    verb("top", "Watch the volumes on a whole terminal, what is worst first; q ends it.")
    points = verb("points", "List restore points.")
    points.add_argument("volume", nargs="?", metavar="VOLUME")
    points.add_argument("--all", action="store_true", help="forgotten ones too")
    _target_option(points, "those of one target alone")
    _key_options(points, is_needed=False)
    show = verb("show", "Tell everything about one point or run.")
    show.add_argument("item", metavar="POINT|RUN")
    _place_options(show)
    _key_options(show, is_needed=False)
    picture = verb("map", "Draw where and when a volume changed.")
    picture.add_argument("volume", metavar="VOLUME")
    picture.add_argument(
        "--since", type=_duration, metavar="TIME", help="so far back, like 7d (default: all)"
    )
    picture.add_argument(
        "--regions", type=int, metavar="N", help="parts of the volume (default: what fits; 64)"
    )
    _key_options(picture, is_needed=False)
    runs = verb("runs", "List the runs under way and the last ones.")
    runs.add_argument("volume", nargs="?", metavar="VOLUME")
    events = verb("events", "Tell what happened.")
    events.add_argument("-f", "--follow", action="store_true", help="go on telling")
    events.add_argument(
        "--since", type=int, default=-50, metavar="SEQ",
        help="events after this number; negative: so many of the last ones (default -50)",
    )  # fmt: skip


def _doing(verb: _Verb) -> None:
    run = verb("run", "Make a restore point now, or join the run that does.", "trigger")
    run.add_argument("volumes", nargs="+", metavar="VOLUME")
    run.add_argument("--wait", action="store_true", help="until it is done; its result is ours")
    run.add_argument("--tag", action="append", default=[], metavar="TAG", help="mark the point")
    run.add_argument("--full", action="store_true", help="compare everything, trust no tracking")
    _target_option(run, "at one target alone (default: at each that the volume has)")
    restore = verb("restore", "Write a point's content to a file or device, and check it.")
    restore.add_argument("point", nargs="?", metavar="POINT", help="without anything: be guided")
    where = restore.add_mutually_exclusive_group()
    where.add_argument(
        "--to", metavar="PATH|VG/LV", help="a new file, a device, or a volume that is to be made"
    )
    where.add_argument(
        "--in-place", action="store_true",
        help="the volume itself: writes what differs, after a point to undo it by was made",
    )  # fmt: skip
    _place_options(restore)
    restore.add_argument("-n", "--dry-run", action="store_true", help="show the plan, do nothing")
    restore.add_argument(
        "--allow-damaged", action="store_true",
        help="also a point that is not whole: all is read first, what is lost is listed in a file",
    )  # fmt: skip
    restore.add_argument("--damaged-list", metavar="FILE", help="that file (default: PATH.damaged)")
    _key_options(restore, is_needed=False)
    verify = verb("verify", "Read points back and compare every block with its checksum.")
    verify.add_argument("item", nargs="?", metavar="VOLUME|POINT")
    _time_options(verify)
    what = verify.add_mutually_exclusive_group()
    what.add_argument(
        "--data", type=_share, metavar="SHARE",
        help="read so much of the data, the longest unread first; 0%% checks the structure alone "
        "(default 100%%)",
    )  # fmt: skip
    what.add_argument(
        "--source", action="store_true",
        help="compare the newest point with the volume; what differs is in a new point",
    )  # fmt: skip
    _key_options(verify, is_needed=False)
    export = verb("export", "Offer a point as a disk over NBD, until Ctrl-C.")
    export.add_argument("point", nargs="?", metavar="POINT", help="left out: every point, by name")
    _place_options(export)
    place = export.add_mutually_exclusive_group()
    place.add_argument("--unix", metavar="PATH", help="a socket here, for you alone (the default)")
    place.add_argument("--listen", metavar="ADDRESS[:PORT]", help="over TCP; PORT is 10809")
    export.add_argument(
        "--writable", action="store_true", help="let clients write; it is thrown away in the end"
    )
    export.add_argument(
        "--detach", action="store_true", help="go on without this terminal, until cancel RUN"
    )
    export.add_argument("--tls-cert", metavar="FILE", help="talk TLS with this certificate")
    export.add_argument("--tls-key", metavar="FILE", help="its private key")
    export.add_argument("--tls-clients", metavar="FILE", help="let in who has a certificate of it")
    _key_options(export, is_needed=True)
    pause = verb("pause", "Make no points of a volume, for a while or until it is resumed.")
    pause.add_argument("volume", metavar="VOLUME")
    pause.add_argument("--for", dest="duration", metavar="TIME", type=_duration, help="like 2h")
    pause.add_argument("--reason", metavar="TEXT", help="why, for whoever looks at status")
    resume = verb("resume", "Make points of a paused volume again.")
    resume.add_argument("volume", metavar="VOLUME")
    view = verb("view", "Let the kernel show a volume as it was, beside what it is now.")
    view.add_argument("point", metavar="POINT|VOLUME", help="the volume with --end")
    view.add_argument("--writable", action="store_true", help="what is written goes in the end")
    view.add_argument("--end", action="store_true", help="end the views of VOLUME")
    view.add_argument(
        "--merge", action="store_true",
        help="the volume itself becomes that, at once; it is copied in the background",
    )  # fmt: skip
    _time_options(view)
    _key_options(view, is_needed=False)
    _drilling(verb)
    cancel = verb("cancel", "Stop a run.")
    cancel.add_argument("run", metavar="RUN")


def _files(verb: _Verb) -> None:
    ls = verb("ls", "List files in a point; or, of POINT alone, the file systems in it.")
    cp = verb("cp", "Copy a file, or with -r a tree, out of a point, with all its attributes.")
    for added in (ls, cp):
        added.add_argument(
            "place", metavar="POINT:/path",
            help="in ext2, ext3, ext4 or XFS, also in partitions and LVM; of several file systems "
            "in an image one is named by its number: POINT:2:/path",
        )  # fmt: skip
        _place_options(added)
        _key_options(added, is_needed=False)
    mount = verb("mount", "Mount a point at a directory, as root; alone: tell what is mounted.")
    mount.add_argument(
        "place", nargs="?", metavar="POINT", help="with several file systems in it: POINT:2"
    )
    mount.add_argument("directory", nargs="?", metavar="DIR")
    mount.add_argument("--rw", action="store_true", help="to write; it is thrown away in the end")
    _place_options(mount)
    _key_options(mount, is_needed=False)
    unmount = verb("unmount", "Unmount what mount mounted, and leave nothing of it.", "umount")
    unmount.add_argument("directory", metavar="DIR")
    ls.add_argument("-l", "--long", action="store_true", help="modes, owners, sizes, times")
    ls.add_argument("-R", "--recursive", action="store_true", help="directories in it, too")
    cp.add_argument("to", metavar="DEST", help="a new name, or a directory to copy into")
    cp.add_argument("-r", "--recursive", action="store_true", help="a directory and all in it")
    cp.add_argument(
        "--overwrite", action="store_true", help="replace files and fill directories that exist"
    )


def _drilling(verb: _Verb) -> None:
    drill = verb("drill", "Restore a point to a scratch place, check it, keep the evidence.")
    drill.add_argument("item", metavar="VOLUME|POINT", help="of a volume the newest point")
    _time_options(drill)
    drill.add_argument(
        "--check", metavar="COMMAND",
        help="run this too; it finds BLOCKSNAP_IMAGE and BLOCKSNAP_NBD_URI in its environment, "
        "and ends with 0 when all is well",
    )  # fmt: skip
    drill.add_argument("--scratch", metavar="DIR", help="with room for it (default /var/tmp)")
    drill.add_argument("--no-restore", action="store_true", help="only open it, and --check")
    _key_options(drill, is_needed=False)
    report = verb("report", "Show the drills that were made, for whoever has to be shown.")
    report.add_argument("volume", nargs="?", metavar="VOLUME")
    report.add_argument(
        "--since", type=_duration, default="30d", metavar="TIME", help="so far back (default 30d)"
    )
    report.add_argument(
        "--html", metavar="FILE", help="write everything about VOLUME as one page for a browser"
    )
    _key_options(report, is_needed=False)


def _keeping(verb: _Verb) -> None:
    prune = verb("prune", "Forget the points that retention does not keep, or show which.")
    prune.add_argument("volume", nargs="?", metavar="VOLUME")
    how = prune.add_mutually_exclusive_group()
    how.add_argument("-n", "--dry-run", action="store_true", help="show the plan, do nothing")
    how.add_argument("--apply", metavar="PLAN", help="do exactly this plan")
    _target_option(prune, "of several the one to prune at (default: the first that is open)")
    asked = prune.add_argument_group("what to keep, with --repo; otherwise the daemon's retention")
    add = asked.add_argument
    add(
        "--keep",
        action="append",
        default=[],
        metavar="RULE",
        help="like 'all for 2h', '1/d for 5w'",
    )
    add("--keep-tag", action="append", default=[], metavar="PATTERN", help="whatever their age")
    add("--min-points", type=int, metavar="N", help="so many of the newest (default 3)")
    add(
        "--max-delete-pct",
        type=float,
        metavar="N",
        help="more at once only by --apply (default 30)",
    )
    add(
        "--undelete",
        type=_duration,
        metavar="TIME",
        help="can be brought back so long (default 14d)",
    )
    _key_options(prune, is_needed=False)
    hold = verb("hold", "Let nothing drop a point.")
    hold.add_argument("point", metavar="POINT")
    _time_options(hold)
    hold.add_argument("--until", metavar="TIME", help="like 2026-12-01, 2026-12-01T14:00 or 30d")
    hold.add_argument("--reason", metavar="TEXT", help="why, for whoever wonders later")
    _key_options(hold, is_needed=False)
    release = verb("release", "Leave a held point to the retention again.")
    release.add_argument("point", metavar="POINT")
    _time_options(release)
    _key_options(release, is_needed=False)
    undelete = verb("undelete", "Bring a forgotten point back, and hold it.")
    undelete.add_argument("point", metavar="POINT")
    _time_options(undelete)
    _key_options(undelete, is_needed=False)


if TYPE_CHECKING:
    from typing import Protocol

    class _Verb(Protocol):
        def __call__(self, name: str, text: str, *aliases: str) -> argparse.ArgumentParser: ...
