"""No step of anyone, in any order, loses a point; and each rule is needed for that."""

from __future__ import annotations

import pytest

from tests.model.explore import explore
from tests.model.rules import BROKEN
from tests.model.world import Limits

# What is different from a good day: one thing each, so that the walks stay short.
SMALL = {
    "good days": Limits(sessions=3, lists=1, writers=1, dies=False),
    "two writers": Limits(sessions=2, lists=1),
    "two collections": Limits(sessions=2, lists=1, writers=1, collectors=2),
    "stalls": Limits(sessions=2, lists=1, writers=1, is_honest=False, locks=False),
    "no locks": Limits(sessions=2, lists=1, is_honest=False, locks=False),
    "two receivers": Limits(sessions=2, lists=1, is_honest=False, locks=False, receivers=True),
    "puts repeated": Limits(
        sessions=2, lists=1, writers=1, is_honest=False, locks=False, receivers=True, repeats=1
    ),
    "late news": Limits(sessions=2, lists=1, writers=1, is_honest=False, shows_late=True),
    "old news": Limits(sessions=2, lists=1, writers=1, is_blind=True, locks=False),
    "clocks jump": Limits(sessions=2, lists=1, writers=1, jumps=2),
    "readers": Limits(sessions=2, lists=2, writers=1, repacks=1, reads=True),
}
# Where listings come late, a session may be refused in vain; no loss, and not counted there.
LARGE = {
    "good days": Limits(sessions=3, lists=2, writers=1),
    "two writers": Limits(sessions=3, lists=1),
    "two collections": Limits(sessions=3, lists=1, writers=1, collectors=2),
    "stalls": Limits(sessions=3, lists=1, writers=1, is_honest=False, locks=False),
    "no locks": Limits(sessions=3, lists=1, is_honest=False, locks=False),
    "two receivers": Limits(
        sessions=2, lists=1, is_honest=False, locks=False, receivers=True, repeats=1
    ),
    "late news": Limits(
        sessions=3, lists=1, writers=1, is_honest=False, shows_late=True, sees_all=False
    ),
    "clocks jump": Limits(sessions=3, lists=1, writers=1, jumps=2),
    "readers": Limits(sessions=3, lists=2, writers=1, repacks=1, reads=True),
    "everything": Limits(
        sessions=3, lists=2, repacks=1, reads=True, is_honest=False, shows_late=True,
        locks=False, sees_all=False,
    ),
}  # fmt: skip
STATES_MAX = 1_500_000
THIRD = Limits(sessions=3, lists=1, writers=1, is_honest=False, locks=False)
PRUNED = Limits(sessions=3, lists=2, writers=1, repacks=1, reads=True, dies=False)
CAUGHT_BY = {
    "commits without a look before": SMALL["stalls"],
    "acknowledges without a look after": SMALL["stalls"],
    "goes on from a point whatever was condemned": THIRD,
    "acknowledges beside a rival": SMALL["no locks"],
    "a session may last for ever": SMALL["old news"],
    "condemns what is young": SMALL["two writers"],
    "deletes at once": SMALL["late news"],
    "deletes while older sessions go on": SMALL["clocks jump"],
    "deletes without marking again": SMALL["clocks jump"],
    "removes lists that are asked for": PRUNED,
    "forgets what can be brought back": PRUNED,
    "condemns before it tells where slots are": PRUNED,
    "lists points before packs": SMALL["late news"],
    "puts at a receiver at any epoch": SMALL["two receivers"],
    "relies on a receiver's look before": SMALL["two receivers"],
    "relies on a point beside others": SMALL["two receivers"],
    "takes what a receiver has for done": SMALL["puts repeated"],
    "takes one receiver's lock for all": SMALL["two receivers"],
    "never gets on": SMALL["two writers"],
}


@pytest.mark.parametrize("name", SMALL)
def test_no_history_loses_anything(name, capsys):
    found = explore(SMALL[name])
    assert not found.wrong, str(found)
    with capsys.disabled():
        print(f"\n{name}: {found}", end="")


@pytest.mark.long
@pytest.mark.parametrize("name", LARGE)
def test_no_longer_history_loses_anything(name, capsys):
    found = explore(LARGE[name], states_max=STATES_MAX)
    assert not found.wrong, str(found)
    with capsys.disabled():
        end = " (the first of more)" if found.states >= STATES_MAX else ""
        print(f"\n{name}: {found}{end}", end="")


@pytest.mark.parametrize("broken", BROKEN)
def test_every_rule_is_needed(broken):
    found = explore(CAUGHT_BY[broken], BROKEN[broken], settles_every=20)
    assert found.wrong, f"nothing goes wrong when a program {broken}: {found}"
    assert found.history[0] == "writer : looks: nothing"


def test_the_walk_reaches_deletions():
    """A walk that never deletes would find nothing wrong with anything."""
    found = explore(SMALL["stalls"], BROKEN["acknowledges without a look after"])
    assert any(step.endswith("deletes pack 2") for step in found.history)
