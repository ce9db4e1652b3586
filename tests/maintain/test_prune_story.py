"""Any story of commits, prunes, holds and regrets by two operators, with calls that go wrong.

The model knows of each point whether it is kept, forgotten until when, held. After each step the
manifest says what the model does; after a call that failed, what it did before or after it.
"""

from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from blocksnapd.errors import NotFoundError, RefusedError, StoreError
from blocksnapd.keep_rules import parse_rule
from blocksnapd.maintain.prune import Pruner, is_held
from blocksnapd.maintain.retention import Candidate, Policy, decide
from tests.fakes.faulty_objects import KINDS, Faults, Killed, Place
from tests.store.support import START, VOLUME, Lab, point_id

if TYPE_CHECKING:
    from blocksnapd.model import PointFacts

MINUTE, HOUR, DAY = 60, 3600, 86_400
RULES = ("all for 5m", "12/h for 1h", "1/h for 6h", "all for 1m")
POLICIES = [
    Policy((parse_rule(a), parse_rule(b)), min_points=n, max_delete_pct=100, undelete_us=u)
    for a, b in (RULES[:2], RULES[2:])
    for n, u in ((1, HOUR * 10**6), (3, 10 * MINUTE * 10**6))
]


@dataclass
class Model:
    """What is true of the points, by seq."""

    forgotten: dict[int, int] = field(default_factory=dict)  # until, µs
    held: dict[int, int] = field(default_factory=dict)  # until, µs; 0: for ever


class TimedLab(Lab):
    """A lab whose points are of the instant that its ``now`` says."""

    now = START.timestamp()

    def facts(self, kind: str, number: int) -> PointFacts:
        return replace(super().facts(kind, number), time=datetime.fromtimestamp(self.now, UTC))


class PruneStory(RuleBasedStateMachine):
    """Two operators, one source."""

    @initialize()
    def begin(self) -> None:
        """Two points."""
        self.lab, self.model, self.now = TimedLab(blocks=4), Model(), START.timestamp()
        self.times: list[int] = []
        self.place = Place(self.lab.store)
        self.kept_plans: list = []
        for _ in range(2):
            self.commit(minutes=1)

    def us(self) -> int:
        return round(self.now * 10**6)

    def operator(self, fault: tuple[str, int] | None) -> Pruner:
        faults = None
        if fault is not None:
            kind, seed = fault
            faults = Faults(random.Random(seed), changes={1}, kinds=frozenset({kind}))
        return Pruner(self.place.process(faults), self.lab.keys, lambda: self.now)

    def attempt(self, fault, deed, change) -> None:
        """Do ``deed``; the state is then what ``change`` makes of the model, or as it was."""
        before, after = deepcopy(self.model), deepcopy(self.model)
        change(after)
        try:
            deed(self.operator(fault))
        except (StoreError, Killed):
            assert fault is not None
            self.model = after if self.state() == self.told(after) else before
        else:
            self.model = after

    @rule(minutes=st.integers(0, 20))
    def commit(self, minutes: int) -> None:
        """Commit a point."""
        self.now += minutes * MINUTE + 1
        self.lab.now, number = self.now, len(self.times) + 1
        self.lab.commit(self.lab.write([number % 4]) if self.times else None)
        self.times.append(self.us())

    @rule(minutes=st.integers(1, 90))
    def wait(self, minutes: int) -> None:
        """Let time pass."""
        self.now += minutes * MINUTE

    faults = st.none() | st.tuples(st.sampled_from(KINDS["put"]), st.integers(0, 9))
    any_point = st.integers(1, 40)

    @rule(policy=st.sampled_from(POLICIES), fault=faults)
    def prune(self, policy: Policy, fault) -> None:
        """Forget what the policy does not keep."""
        goes = [v.point.seq for v in decide(self.candidates(), policy, self.us()) if not v.keep]
        until = self.us() + policy.undelete_us
        self.attempt(
            fault,
            lambda pruner: pruner.prune(VOLUME, policy),
            lambda model: model.forgotten.update(dict.fromkeys(goes, until)),
        )

    @rule(policy=st.sampled_from(POLICIES))
    def plan(self, policy: Policy) -> None:
        """Look at a plan, and think about it."""
        self.kept_plans.append(self.operator(None).plan(VOLUME, policy))

    @rule(which=st.integers(0, 9))
    def apply(self, which: int) -> None:
        """Do a plan that somebody looked at some time ago: exactly it, or nothing."""
        if not self.kept_plans:
            return
        plan = self.kept_plans[which % len(self.kept_plans)]
        try:
            self.operator(None).apply(plan)
        except RefusedError:
            pass  # then nothing changed, as the invariant sees
        else:
            until = self.us() + plan.undelete_us
            self.model.forgotten.update(dict.fromkeys([p.seq for p in plan.forgotten], until))

    @rule(seq=any_point, fault=faults, minutes=st.none() | st.integers(1, 60))
    def hold(self, seq: int, fault, minutes: int | None) -> None:
        """Hold a point."""
        until = self.us() + minutes * MINUTE * 10**6 if minutes else 0

        def deed(pruner: Pruner) -> None:
            pruner.hold(VOLUME, point_id(seq), until_us=until)

        if seq > len(self.times) or seq in self.model.forgotten:
            with pytest.raises((NotFoundError, RefusedError)):
                deed(self.operator(None))
        else:
            self.attempt(fault, deed, lambda model: model.held.update({seq: until}))

    @rule(seq=any_point, fault=faults)
    def release(self, seq: int, fault) -> None:
        """Release a point."""
        if seq <= len(self.times):
            self.attempt(
                fault,
                lambda pruner: pruner.release(VOLUME, point_id(seq)),
                lambda model: model.held.pop(seq, None),
            )

    @rule(which=st.integers(0, 9), fault=faults)
    def undelete(self, which: int, fault) -> None:
        """Bring a forgotten point back."""
        if not self.model.forgotten:
            return
        seq = sorted(self.model.forgotten)[which % len(self.model.forgotten)]

        def deed(pruner: Pruner) -> None:
            pruner.undelete(VOLUME, point_id(seq))

        def change(model: Model) -> None:
            del model.forgotten[seq]
            model.held[seq] = 0

        if self.model.forgotten[seq] <= self.us():
            with pytest.raises(RefusedError, match="could be brought back until"):
                deed(self.operator(None))
        else:
            self.attempt(fault, deed, change)

    def candidates(self) -> list[Candidate]:
        held = {s for s, until in self.model.held.items() if not until or until > self.us()}
        return [
            Candidate(seq, point_id(seq), time, held="held" if seq in held else "")
            for seq, time in enumerate(self.times, 1)
            if seq not in self.model.forgotten
        ]

    def state(self) -> tuple[dict[int, int], set[int]]:
        manifest = self.operator(None).look(VOLUME).manifest
        held = {h.seq for h in manifest.holds if is_held(h, self.us())}
        return {f.seq: f.until_us for f in manifest.forgotten}, held

    def told(self, model: Model) -> tuple[dict[int, int], set[int]]:
        held = {s for s, until in model.held.items() if not until or until > self.us()}
        return model.forgotten, held

    @invariant()
    def the_manifest_says_what_is_true(self) -> None:
        """And what nobody may take is there."""
        assert self.state() == self.told(self.model)
        ledger = self.operator(None).look(VOLUME)
        there = [c.seq for c in ledger.candidates(self.us())]
        assert there == [c.seq for c in self.candidates()]
        assert there[-1] == len(self.times)
        assert self.told(self.model)[1] <= set(there)
        assert len(ledger.points) == len(self.times)


PruneStory.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, print_blob=True
)
TestPruneStory = PruneStory.TestCase
