"""One cycle's reports → its run, the metrics and the event log. Called from several threads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from blocksnapd.errors import BlocksnapError, HostError

if TYPE_CHECKING:
    from blocksnapd.control.messages import Severity
    from blocksnapd.metrics import Metrics
    from blocksnapd.ports import Clock
    from blocksnapd.service.runs import LiveRun
    from blocksnapd.ship.shipper import Progress

log = logging.getLogger(__name__)

_SEVERITIES: dict[str, Severity] = {
    "proof-mismatch": "critical",
    "tracking-lied": "critical",
    "point-damaged": "critical",
    "fingerprints-wrong": "error",
    "tracking-lost": "error",
    "tracking-dropped": "error",
    "state-failed": "error",
    "repaired": "warning",
}


class Say(Protocol):
    """Puts one event into the event log; callable from any thread."""

    def __call__(
        self, kind: str, message: str, *, severity: Severity, volume: str, data: dict[str, object]
    ) -> None:
        """Say it; never raises."""


class CycleReporter:
    """The pipeline's ``Reporter`` for one run."""

    def __init__(self, run: LiveRun, metrics: Metrics, say: Say, clock: Clock) -> None:
        self._run = run
        self._metrics = metrics
        self._say = say
        self._clock = clock

    def step(self, name: str) -> None:
        """Show where the run is."""
        self._run.phase = name

    def phase(self, name: str, seconds: float) -> None:
        """Note how long a phase took; ``freeze`` is how long writers were held."""
        run = self._run
        if name == "freeze":
            run.suspend_s = seconds
            self._metrics.freeze(run.volume, seconds)
            return
        run.phases = {**run.phases, name: run.phases.get(name, 0.0) + seconds}
        self._metrics.phase(name, seconds)

    def progress(self, progress: Progress) -> None:
        """Show how far the shipment is."""
        run = self._run
        run.done_bytes, run.expected_bytes = progress.done, progress.total
        run.changed_bytes = progress.changed
        self._metrics.run_progress(
            run.volume,
            run.target,
            done=progress.done,
            expected=progress.total,
            now=self._clock.now(),
        )

    def event(self, kind: str, message: str, **fields: object) -> None:
        """Tell the operator; a warning also stays with the run."""
        self._run.warnings = [*self._run.warnings, message]
        if kind == "tracking-lost":
            self._metrics.cow_overflow(self._run.volume)
        if kind == "tracking-lied":
            self._metrics.tracking_lied(
                self._run.volume, blocks=int(str(fields["untracked_blocks"]))
            )
        self._say(
            kind,
            message,
            severity=_SEVERITIES.get(kind, "warning"),
            volume=self._run.volume,
            data=dict(fields),
        )


def as_known(caught: Exception, volume: str) -> BlocksnapError:
    """Return ``caught`` if it is one of ours; say in our words what any other means."""
    effect = "The point was not committed; earlier points are untouched."
    if isinstance(caught, BlocksnapError):
        caught.effect = caught.effect or effect
        caught.hint = caught.hint or "It is tried again; the log tells what went before."
        return caught
    if isinstance(caught, OSError):
        where = f" {caught.filename}" if caught.filename else ""
        return HostError(
            f"{volume}: the daemon's own files failed:{where} {caught.strerror or caught}",
            effect=effect,
            hint="Give the disk of the state directory room, or repair it; it is tried again.",
        )
    log.error("%s failed in a way nobody thought of", volume, exc_info=caught)
    return BlocksnapError(
        f"{volume}: {type(caught).__name__}: {caught}",
        effect=effect,
        hint="This is a mistake in blocksnap: please report it with the log.",
    )
