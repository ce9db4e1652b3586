"""check: one line and four exit codes, whatever happens."""

from __future__ import annotations

import re

import pytest

from blocksnapctl.checking import CRITICAL, OK, UNKNOWN, WARNING, judge, told
from blocksnapctl.render import named
from tests.control.serving import serving
from tests.ctl.calling import calling
from tests.fakes.operations import volume_status

LATE = "v exposure 10m01s > rpo 10m00s"
CAUSE = {"code": "E-STORE", "message": "the vault does not answer"}


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, OK, ""),
        ({"exposure": 359.0}, OK, ""),
        ({"exposure": 361.0}, WARNING, "v exposure 6m01s of rpo 10m00s"),
        ({"exposure": 601.0}, CRITICAL, LATE),
        ({"exposure": 601.0, "paused": {"who": "x"}}, WARNING, f"{LATE} (paused)"),
        ({"cow": {"full_in": 90.0}}, WARNING, "v fills its COW space in 1m30s"),
        ({"cow": {"full_in": 900.0}}, OK, ""),
        ({"cow": {"full_in": None}}, OK, ""),
        ({"cow": {"is_lost": True}}, WARNING,
         "v lost its tracking: the next run compares the whole volume"),
        ({"paused": {"reason": ""}}, WARNING, "v is paused"),
        ({"causes": [CAUSE], "state": "failing"}, WARNING, "v the vault does not answer"),
        ({"exposure": None, "state": "seeding"}, WARNING, "v has no point yet"),
        ({"exposure": None, "state": "unprotected"}, CRITICAL, "v has no point yet"),
    ],
)  # fmt: skip
def test_how_bad_it_is(changes: dict[str, object], level: int, text: str) -> None:
    assert judge(volume_status("v", **changes)) == (level, text)


def test_the_worst_is_told_first() -> None:
    volumes = [volume_status("a", causes=[CAUSE]), volume_status("b", exposure=700.0)]
    level, text, perf = told(volumes, ["c"])
    assert level == CRITICAL
    assert text.index("b exposure") < text.index("no volume c") < text.index("a the vault")
    assert perf == "'a_exposure'=72s;360;600 'b_exposure'=700s;360;600"
    assert told([], [])[0] == UNKNOWN
    assert told([volume_status("it's")], [])[2].startswith("'it''s_exposure'=72s")


def test_each_target_of_a_volume_is_judged() -> None:
    near, far = volume_status("v"), volume_status("v", target="far", exposure=700.0)
    level, text, perf = told(named([near, far]), [])
    assert level == CRITICAL
    assert text == "v → far exposure 11m40s > rpo 10m00s"
    assert perf == "'v → near_exposure'=72s;360;600 'v → far_exposure'=700s;360;600"


async def test_the_line() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        found = await calling("check", "vg0/home", *args)
        assert (found.code, found.err) == (OK, "")
        assert re.fullmatch(
            r"BLOCKSNAP OK - 1 volume within the RPO \| 'vg0/home_exposure'=72s;360;600\n",
            found.out,
        )
        assert (await calling("check", "vg0/x", *args)).code == UNKNOWN
        document = (await calling("check", "vg0/home", "--json", *args)).lines[0]
        assert (document["level"], document["schema"]) == ("OK", 1)


async def test_nobody_answers() -> None:
    found = await calling("check", "--socket", "/nowhere")
    assert (found.code, found.err) == (UNKNOWN, "")
    assert found.out.startswith("BLOCKSNAP UNKNOWN - no daemon answers on /nowhere")
    assert found.out.count("\n") == 1
