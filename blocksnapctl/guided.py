"""``restore`` without arguments: it asks for what is to be typed, and shows what there is. Edge.

For somebody who never saw this program, on a day when nothing else works. It only reads until
the last question; then it does what the command that it shows would do, by the same code. It runs
on a terminal alone: a script that meets a question would wait for ever.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, cast

from blocksnapctl import render
from blocksnapctl.arguments import parse
from blocksnapctl.choosing import found_point
from blocksnapctl.client import ProblemError
from blocksnapctl.output import printable
from blocksnapctl.program import WorkerFailedError
from blocksnapctl.zone import local_now
from blocksnapd.control.messages import EXIT_DAMAGED, EXIT_INTERRUPTED, Problem, problem
from blocksnapd.errors import BlocksnapError, UsageError
from blocksnapd.units import format_count, format_size

if TYPE_CHECKING:
    import argparse

    from blocksnapctl.client import Client
    from blocksnapctl.commands import Context
    from blocksnapctl.worker import Worker
    from blocksnapd.control.messages import Point

SHOWN_MAX = 12  # points in a list; the others are named by their time
KEY_NAMES = ("restore.key", "keys/restore.key", "/etc/blocksnap/restore.key")
TO_TYPE = """\
Type what you want to know, then what you want back:
  blocksnapctl --repo /mnt/vault/blocksnap points --key restore.key
  blocksnapctl --repo /mnt/vault/blocksnap restore VOLUME@latest --to /mnt/spare/disk.img --key restore.key
  blocksnapctl --repo /mnt/vault/blocksnap restore VOLUME --at 'yesterday 14:05' --to /dev/sdx --key restore.key
All about it: man blocksnapctl"""  # noqa: E501 - commands stand on a line each


class EndedError(Exception):
    """The operator had enough: end of input, or no at the last question."""


def is_unfinished(arguments: argparse.Namespace) -> bool:
    """Say whether a restore names neither what nor where to, so that both are to be asked for.

    Raises:
        UsageError: it names one of them alone.
    """
    has_place = arguments.to is not None or arguments.in_place
    if arguments.point is None and not has_place and not (arguments.at or arguments.before):
        return True
    if arguments.point is None or not has_place:
        raise UsageError(
            "restore needs a POINT and where to: --to PATH or --in-place",
            effect="Nothing was read or written.",
            hint="Without any of them it asks for all it needs: blocksnapctl restore",
        )
    return False


def guided(context: Context) -> int:
    """Ask for what is to be restored, and where to; show the plan; do it after the last yes.

    Raises:
        UsageError: nobody is here to be asked.
    """
    if not sys.stdin.isatty() or not sys.stderr.isatty() or context.output.as_json:
        raise UsageError(
            "restore asks questions, and nobody is here to answer them",
            effect="Nothing was read or written.", hint=TO_TYPE,
        )  # fmt: skip
    guide = Guide(context)
    try:
        return guide.run()
    except (EndedError, KeyboardInterrupt):
        if not guide.is_writing:  # otherwise it was told what became of it
            guide.say("\nNothing was written.")
        return EXIT_INTERRUPTED


class Guide:
    """One conversation."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.is_writing = False

    def run(self) -> int:
        """Ask everything; return the exit code of the restore."""
        self.say(
            "This helps to get a volume back. It only reads until you say yes to its plan at the "
            "end.\nEnter takes what stands in [brackets]; Ctrl-C ends it at any time.\n"
        )
        while True:
            arguments = self._context.arguments
            arguments.repo, arguments.key = repo, key = self._repository(), self._key()
            try:
                with self._context.worker(repo) as worker:
                    return self._with(worker, repo, key)
            except WorkerFailedError:
                self.say("That did not work; it said why above. Once more:\n")  # or another place
            except BlocksnapError as error:
                self._told(problem(error))

    def _with(self, worker: Worker, repo: str, key: str) -> int:
        client = worker.client
        every = cast("list[Point]", client.get("points")["points"])
        if not every:
            self.say(f"There is no point in {repo}.")
            raise EndedError
        point = self._point(client, self._volume(every), every)
        reading = ["--repo", repo, "--key", key]
        if (file := self._context.arguments.passphrase_file) is not None:
            reading += ["--passphrase-file", file]
        self._context.adopt(worker)
        while True:
            words = ["restore", point["id"], "--to", self._target(point, repo), *reading]
            if words := self._planned(words):
                self._refuse_unwanted(words, point, reading)
                self.is_writing = True
                return self._typed(words)

    # --- the questions -------------------------------------------------------------------------

    def _repository(self) -> str:
        known = self._context.arguments.repo or self._configured()
        self.say("Where is the repository? It is the directory that holds repo.json.")
        while True:
            found = os.path.expanduser(self._ask("Repository", known))
            if "://" in found or os.path.exists(os.path.join(found, "repo.json")):
                return found if "://" in found else os.path.abspath(found)
            self.say(f"There is no repo.json in {found}. Is the disk mounted?")

    def _configured(self) -> str | None:
        """Return where the daemon keeps its points, if there is a daemon."""
        try:
            targets = self._context.daemon.get("status")["targets"]
        except (BlocksnapError, ProblemError):
            return None
        return str(targets[0]["url"]) if len(targets) == 1 else None

    def _key(self) -> str:
        known = self._context.arguments.key
        known = known or next((name for name in KEY_NAMES if os.path.isfile(name)), None)
        self.say("Which file is the private key? init made it as restore.key.")
        while True:
            found = os.path.abspath(os.path.expanduser(self._ask("Key", known)))
            if os.path.isfile(found):
                return found
            self.say(f"{found} is no file.")

    def _volume(self, every: list[Point]) -> str:
        names = list(dict.fromkeys(p["volume"] for p in every))
        now = local_now()
        rows = []
        for number, name in enumerate(names, 1):
            own = [p for p in every if p["volume"] == name]
            times = sorted(p["time"] for p in own)
            rows.append([
                str(number), name, format_size(own[-1]["size"]), str(len(own)),
                render.short_time(times[0], now), render.short_time(times[-1], now),
            ])  # fmt: skip
        head = ("", "VOLUME", "SIZE", "POINTS", "FIRST", "LAST")
        self.say("\n" + "\n".join(render.table(head, rows)))
        while True:
            found = self._ask("Volume", names[0] if len(names) == 1 else None)
            if found in names:
                return found
            if found.isdecimal() and 0 < int(found) <= len(names):
                return names[int(found) - 1]
            self.say("Type its number or its name.")

    def _point(self, client: Client, volume: str, every: list[Point]) -> Point:
        own = sorted((p for p in every if p["volume"] == volume), key=lambda p: p["time"])
        self.say("\nIts newest points:\n" + render.points(own[-SHOWN_MAX:], local_now()))
        if len(own) > SHOWN_MAX:
            self.say(f"and {format_count(len(own) - SHOWN_MAX, 'older point')}.")
        self.say(
            "As of when? A time like 14:05, 'yesterday 14:05' or '2026-11-22 14:05', or the "
            "start of an id."
        )
        while True:
            asked = self._ask("Time or id", "latest")
            if (point := self._chosen(client, volume, own, asked)) is None:
                continue
            at = next((n for n, p in enumerate(own) if p["id"] == point["id"]), 0)
            around = own[max(0, at - 1) : at + 2]
            if len(around) > 1:
                self.say("\nBefore it, it, after it:\n" + render.points(around, local_now()))
            if point.get("suspect"):
                self.say("SUSPECT: the volume held something else at that instant. Take another.")
            if self._is_yes(f"Restore {point['id']}?", is_default=not point.get("suspect")):
                return point

    def _chosen(
        self, client: Client, volume: str, own: list[Point], asked: str
    ) -> Point | None:  # fmt: skip
        by_id = [p for p in own if p["id"].startswith(asked)]
        selector = by_id[0]["id"] if len(by_id) == 1 else f"{volume}@{asked}"
        try:
            return cast("Point", found_point(self._context.output, client, selector))
        except ProblemError as error:
            self._told(error.problem)
        except BlocksnapError as error:
            self._told(problem(error))
        return None

    def _target(self, point: Point, repo: str) -> str:
        from blocksnapctl.restoring import place_of  # which began this

        self.say(
            f"\nWhere to? A new file on a disk with room for {format_size(point['size'])}, a "
            "device of at least that size\nthat nothing uses, or VG/LV, a volume that is made for "
            "it. Not onto the disk that failed."
        )
        while True:
            found = os.path.expanduser(self._ask("Restore to", None))
            try:
                place = place_of(found)
            except BlocksnapError as error:
                self._told(problem(error))
                continue
            if place.is_new:
                return found
            if os.path.isdir(place.path):
                self.say(f"{place.path} is a directory: name a file in it.")
            elif not os.path.isdir(os.path.dirname(place.path)):
                self.say(f"There is no directory {os.path.dirname(place.path)}.")
            elif os.path.commonpath([place.path, os.path.abspath(repo)]) == os.path.abspath(repo):
                self.say("That is inside the repository, which is to stay as it is.")
            else:
                return place.path

    def _planned(self, words: list[str]) -> list[str]:
        """Show what the command would do; return it, complete, or nothing if it would not."""
        self.say("\nThe plan")
        code = self._typed([*words, "--dry-run"])
        if code == EXIT_DAMAGED:
            question = "It is damaged. Restore what is whole, and list what is not?"
            words = [*words, "--allow-damaged"] if self._is_yes(question, is_default=False) else []
        elif code:
            return []
        return [*words, "--yes"] if words and os.path.lexists(words[3]) else words

    def _refuse_unwanted(self, words: list[str], point: Point, reading: list[str]) -> None:
        if "--yes" in words:
            self.say(f"\nWHAT IS IN {words[3]} NOW WILL BE LOST.")
        self.say(
            f"The same, typed:\n"
            f"  blocksnapctl {shlex.join(words)}\n"
            f"To look into it first, without writing anything:\n"
            f"  blocksnapctl {shlex.join(['export', point['id'], *reading])}"
        )
        if not self._is_yes("Write it now?", is_default=False):
            raise EndedError

    # --- doing it ------------------------------------------------------------------------------

    def _typed(self, words: list[str]) -> int:
        """Do what the typed command does; the worker is there already, and knows its key."""
        from blocksnapctl.restoring import restore  # which began this

        arguments = parse(words, socket_path=self._context.arguments.socket)
        for option in ("plain", "quiet", "verbose", "no_color"):
            setattr(arguments, option, getattr(self._context.arguments, option))
        self._context.arguments = arguments
        try:
            return restore(self._context)
        except ProblemError as error:
            return self._context.output.problem(error.problem)
        except BlocksnapError as error:
            return self._context.output.problem(problem(error))

    # --- the terminal --------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Tell something."""
        sys.stderr.write(f"{text.rstrip()}\n")
        sys.stderr.flush()

    def _told(self, found: Problem) -> None:
        lines = [found.get("message", "failed"), found.get("effect", ""), found.get("hint", "")]
        self.say("\n".join(printable(line) for line in lines if line))

    def _ask(self, name: str, default: str | None) -> str:
        shown = f" [{default}]" if default else ""
        while True:
            sys.stderr.write(f"{name}{shown}: ")
            sys.stderr.flush()
            line = sys.stdin.readline()
            if not line:
                raise EndedError
            if found := line.strip() or default:
                return found

    def _is_yes(self, question: str, *, is_default: bool) -> bool:
        choices = "[Y/n]" if is_default else "[y/N]"
        sys.stderr.write(f"{question} {choices} ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EndedError
        answer = line.strip().lower()
        return answer in {"y", "yes"} or (is_default and not answer)
