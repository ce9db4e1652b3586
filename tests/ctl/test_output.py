"""Data and talk, each to its stream; problems for people and for programs."""

from __future__ import annotations

import json

from blocksnapctl.arguments import parse
from blocksnapctl.output import CLEAR_LINE, Output, printable
from tests.ctl.calling import Terminal


def output(*argv: str, **environ: str) -> tuple[Output, Terminal, Terminal]:
    out, err = Terminal(), Terminal()
    arguments = parse(["status", *argv], socket_path=None)
    return Output(out, err, arguments, {"TERM": "xterm", **environ}), out, err


def test_progress_makes_room_for_what_follows() -> None:
    made, out, err = output()
    made.progress("half")
    made.progress("more")
    made.say("talk")
    made.data("data")
    assert out.getvalue() == "data\n"
    assert err.getvalue() == f"{CLEAR_LINE}half{CLEAR_LINE}more{CLEAR_LINE}talk\n"


def test_no_progress_where_nobody_looks() -> None:
    for argv, environ in ((["-q"], {}), (["--json"], {}), ([], {"TERM": "dumb"})):
        made, _, err = output(*argv, **environ)
        made.progress("half")
        assert err.getvalue() == ""


def test_quiet_keeps_data_and_problems() -> None:
    made, out, err = output("-q")
    made.say("talk")
    made.data("data\n")
    made.data("")
    assert made.problem({"code": "E-X", "message": "bad", "exit_code": 12}) == 12
    assert out.getvalue() == "data\n"
    assert err.getvalue() == "blocksnapctl: bad [E-X]\n"


def test_a_problem() -> None:
    made, out, err = output("--json")
    code = made.problem({"code": "E-X", "message": "a\x1b\nb", "effect": "e", "hint": "h"})
    assert code == 1
    assert err.getvalue() == "blocksnapctl: a�\n  b [E-X]\n  e\n  h\n"
    told = json.loads(out.getvalue())
    assert (told["type"], told["code"], told["schema"]) == ("error", "E-X", 1)


def test_printable() -> None:
    assert printable("a\tb\x07c\nd é") == "a�b�c\n  d é"
