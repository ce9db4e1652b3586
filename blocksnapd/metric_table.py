"""Every metric, its labels, and whether its series exist from the start: one table. Pure.

To add one is a row here and a method of ``metrics.Metrics`` that moves it. Names follow Prometheus'
rules: base units last, ``_total`` for counters, an instant is ``_timestamp_seconds`` and never an
age. The promise (``rpo_target_seconds``) stands beside the fact (``last_point_timestamp_seconds``).
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

VOLUME: Final = ("volume",)
SHIPPED: Final = ("volume", "target")
HOOK: Final = ("volume", "hook")
RESULTS: Final = ("success", "warning", "failed", "skipped", "cancelled")
REASONS: Final = (
    "first",
    "asked",
    "overflow",
    "cow-reserve",
    "tracking-gone",
    "untracked",
    "fingerprints-gone",
    "fingerprints-wrong",
    "shrunk",
    "grown",
    "proof-mismatch",
    "damaged",
)
PHASES: Final = ("hook", "snapshot", "scan", "prove", "transfer", "commit", "remove")
# The labels whose values are all known beforehand, whatever is configured.
VALUES: Final = {"kind": ("cycle",), "result": RESULTS, "reason": REASONS, "phase": PHASES}
PHASE_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400)
FREEZE_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)

LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30)


class Row(NamedTuple):
    """One metric.

    Counters and histograms exist with 0 from the start, so that ``increase()`` works; so do gauges
    that are ``zero``. Other gauges are absent until they are known, which often means "never".
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    text: str
    zero: bool = False
    buckets: tuple[float, ...] = ()

    def at_start(self, known: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ...]]:
        """Yield the labels of each series that is to exist at once.

        Args:
            known: values of labels; one that neither this nor ``VALUES`` knows starts nothing.
        """
        if self.kind != "gauge" or self.zero:
            values: dict[str, Sequence[str]] = {**VALUES, **known}
            yield from product(*(values.get(label, ()) for label in self.labels))


TABLE: Final = (
    Row("build_info", "gauge", ("version", "python"), "Always 1; what is running."),
    Row("config_last_reload_successful", "gauge", (),
        "1 if the configuration was taken when it was last read.", zero=True),
    Row("config_last_reload_success_timestamp_seconds", "gauge", (),
        "Instant at which a configuration was last taken."),
    Row("volume_info", "gauge", ("volume", "driver", "volume_id"),
        "Always 1; how the volume is tracked, and its id in the repository."),
    Row("volume_paused", "gauge", VOLUME, "1 while no runs are made by themselves.", zero=True),
    Row("volume_paused_since_timestamp_seconds", "gauge", VOLUME,
        "Instant at which the pause began. Absent: it is not paused."),
    Row("rpo_target_seconds", "gauge", SHIPPED, "How old the newest point may be: the promise."),
    Row("last_point_timestamp_seconds", "gauge", SHIPPED,
        "Instant of the newest durable point: the fact. Absent: there is none."),
    Row("schedule_interval_seconds", "gauge", VOLUME, "Configured time between points."),
    Row("runs_total", "counter", ("volume", "target", "kind", "result"), "Runs that ended."),
    Row("run_failures_total", "counter", ("volume", "target", "code"), "Failed runs by cause."),
    Row("consecutive_failures", "gauge", SHIPPED,
        "Failed runs since the last good one.", zero=True),
    Row("run_active", "gauge", SHIPPED, "1 while a run is under way.", zero=True),
    Row("run_done_bytes", "gauge", SHIPPED, "Bytes the active run has dealt with.", zero=True),
    Row("run_expected_bytes", "gauge", SHIPPED,
        "Bytes the active run has to deal with.", zero=True),
    Row("run_last_progress_timestamp_seconds", "gauge", SHIPPED,
        "Instant at which the active run last got ahead. Absent: none yet."),
    Row("phase_duration_seconds", "histogram", ("phase",), "Duration of each step of a run.",
        buckets=PHASE_BUCKETS),
    Row("freeze_duration_seconds", "histogram", VOLUME, "How long writers were held, measured.",
        buckets=FREEZE_BUCKETS),
    Row("hook_duration_seconds", "histogram", HOOK, "How long a hook took.",
        buckets=PHASE_BUCKETS),
    Row("hook_failures_total", "counter", HOOK, "Hooks that failed, or did not end in time."),
    Row("changed_bytes_total", "counter", VOLUME, "Bytes of the volume found changed."),
    Row("transferred_bytes_total", "counter", SHIPPED, "Raw bytes shipped."),
    Row("stored_bytes_total", "counter", SHIPPED, "Bytes written to the repository."),
    Row("full_scans_total", "counter", ("volume", "reason"), "Times the whole volume was read."),
    Row("cow_size_bytes", "gauge", VOLUME, "Size of the snapshot's COW device."),
    Row("cow_used_bytes", "gauge", VOLUME, "Bytes used in it."),
    Row("cow_full_timestamp_seconds", "gauge", VOLUME,
        "Instant at which it is full if it goes on filling like this. Absent: it does not fill."),
    Row("cow_extends_total", "counter", VOLUME, "Times a COW device was made larger."),
    Row("cow_overflows_total", "counter", VOLUME, "Snapshots the kernel gave up."),
    Row("cow_disk_free_bytes", "gauge", ("space",), "Room on the disk under a COW space."),
    Row("cow_disk_reserve_bytes", "gauge", ("space",), "Room that must stay free on that disk."),
    Row("points", "gauge", SHIPPED, "Points in the repository.", zero=True),
    Row("points_held", "gauge", SHIPPED, "Points of these that nothing may drop.", zero=True),
    Row("oldest_point_timestamp_seconds", "gauge", SHIPPED,
        "Instant of the oldest of these points. Absent: there is none."),
    Row("prune_last_success_timestamp_seconds", "gauge", SHIPPED,
        "Instant of the last prune that no guard stopped. Absent: none yet."),
    Row("prune_blocked", "gauge", SHIPPED,
        "1 while a guard stops pruning: somebody has to look.", zero=True),
    Row("pruned_points_total", "counter", SHIPPED, "Points forgotten."),
    Row("forgotten_points", "gauge", SHIPPED,
        "Points forgotten that can still be brought back.", zero=True),
    Row("unmerged_points", "gauge", SHIPPED,
        "Points since the newest merged layer: each is one more to open.", zero=True),
    Row("collected_bytes_total", "counter", SHIPPED, "Bytes of objects deleted for good."),
    Row("maintenance_last_success_timestamp_seconds", "gauge", ("target",),
        "Instant of the last round of maintenance that went well. Absent: none yet."),
    Row("volume_size_bytes", "gauge", VOLUME, "Size of the volume."),
    Row("target_up", "gauge", ("target",), "1 if the target answered last time.", zero=True),
    Row("target_free_bytes", "gauge", ("target",), "Room at the target. Absent: not known."),
    Row("target_rtt_seconds", "gauge", ("target",),
        "How long the target took to answer last time. Absent: it did not."),
    Row("tls_certificate_expiry_timestamp_seconds", "gauge", ("target", "role"),
        "Until when a certificate is good: the source's own, the receiver's authority's."),
    Row("target_clock_offset_seconds", "gauge", ("target",),
        "How far the target's clock is ahead of this host's. Absent: it does not tell."),
    Row("target_sent_bytes_total", "counter", ("target",),
        "Bytes handed to the target over its line, those of repeated calls too."),
    Row("target_throttled_seconds_total", "counter", ("target",),
        "Time that the bandwidth limit held sending back."),
    Row("target_retries_total", "counter", ("target",),
        "Calls made again because the target had stumbled."),
    Row("target_stalls_total", "counter", ("target",),
        "Calls given up because not a byte moved for the stall timeout."),
    Row("proof_checked_blocks_total", "counter", VOLUME,
        "Blocks of the previous point compared with the old content the snapshot kept."),
    Row("proof_mismatched_blocks_total", "counter", VOLUME,
        "Blocks of the previous point whose old content was not what the repository holds."),
    Row("untracked_blocks_total", "counter", VOLUME,
        "Blocks a full compare found changed although no change of them was tracked."),
    Row("verify_interval_seconds", "gauge", SHIPPED,
        "Configured time between verifications of the structure. Absent: there are none."),
    Row("verify_last_success_timestamp_seconds", "gauge", ("volume", "target", "kind"),
        "Instant of the last verify of this kind without damage. Absent: none yet."),
    Row("verified_bytes_total", "counter", SHIPPED, "Bytes of packs read whole by verify."),
    Row("corrupt_blocks", "gauge", SHIPPED,
        "Damaged blocks in the repository that some point needs, as of the last verify.",
        zero=True),
    Row("drill_interval_seconds", "gauge", VOLUME, "Configured time between drills."),
    Row("drill_last_success_timestamp_seconds", "gauge", SHIPPED,
        "Instant of the last drill that found nothing wrong. Absent: none yet."),
    Row("drill_last_duration_seconds", "gauge", ("volume", "target", "step"),
        "How long a step of the last drill took: readable, restored, fsck, check."),
    Row("drill_failed", "gauge", SHIPPED, "1 if the last drill found something wrong."),
    Row("control_requests_total", "counter", ("method", "route", "code"),
        "Requests that the control socket answered."),
    Row("event_loop_lag_seconds", "histogram", (),
        "How much later than due the daemon's event loop got to a task.", buckets=LAG_BUCKETS),
)  # fmt: skip
