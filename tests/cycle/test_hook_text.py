"""What hooks are told, how they become units, what their end means."""

from __future__ import annotations

import msgspec
import pytest

from blocksnapd.cycle.hook_text import End, Order, ended, environment, unit_argv
from blocksnapd.runtime.process import Finished

ORDER = Order("before-snapshot:pg", "before-snapshot", ("/x/pg", "a b", "$HOME"), "postgres", 2.5)
FACTS = {"VOLUME": "vg0/pg data", "POINT": "p1"}


def finished(status: int, seconds: float, said: str = "") -> Finished:
    return Finished(("/x/pg",), status, "", said, seconds)


def test_the_environment_is_the_systems_and_the_facts_alone() -> None:
    told = environment(FACTS, user="postgres", home="/var/lib/postgresql")
    assert told["BLOCKSNAP_VOLUME"] == "vg0/pg data"
    assert (told["USER"], told["HOME"]) == ("postgres", "/var/lib/postgresql")
    assert set(told) == {
        "PATH", "LC_ALL", "USER", "LOGNAME", "HOME", "BLOCKSNAP_VOLUME", "BLOCKSNAP_POINT",
    }  # fmt: skip


def test_a_unit_has_the_user_the_limit_and_the_facts() -> None:
    argv = unit_argv(ORDER, FACTS, unit="u.service")
    assert argv[0] == "systemd-run"
    for word in ("--wait", "--collect", "--unit=u.service", "--property=User=postgres",
                 "--property=RuntimeMaxSec=2.5s", "--property=KillMode=control-group",
                 "--setenv=BLOCKSNAP_VOLUME=vg0/pg data"):  # fmt: skip
        assert word in argv
    # systemd would put its own variable in the place of $HOME
    assert argv[argv.index("--") + 1 :] == ["/x/pg", "a b", "$$HOME"]


@pytest.mark.parametrize(
    ("status", "seconds", "in_time", "known", "words"),
    [
        (0, 0.1, True, 0, ""),
        (75, 0.1, True, 75, "status 75"),
        (3, 0.1, True, 3, "status 3: no such role"),
        (1, 2.6, True, None, "did not end within 2.5s"),  # killed by systemd at its timeout
        (-9, 2.6, False, None, "did not end within 2.5s"),
        (0, 2.6, True, 0, ""),
    ],
)
def test_what_an_end_means(
    status: int, seconds: float, in_time: bool, known: int | None, words: str
) -> None:
    said = "no such role" if status == 3 else ""
    end = ended(ORDER, finished(status, seconds, said), in_time=in_time)
    assert end.status == known
    assert (end.is_well, end.is_skip) == (known == 0, known == 75)
    assert not words or words in end.sentence(ORDER)


def test_what_could_not_be_run_is_told_so() -> None:
    assert "could not be run: no user" in End(None, "no user 'x'", 0.0).sentence(ORDER)


def test_what_a_hook_said_is_told_to_a_limit() -> None:
    assert len(End(1, "x" * 100_000, 0.0).sentence(ORDER)) < 1000


def test_an_order_goes_through_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(ORDER), type=Order) == ORDER
