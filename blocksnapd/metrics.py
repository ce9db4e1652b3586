"""What moves the metrics of ``metric_table``. Edge: reads /proc when scraped.

A scrape reads memory alone: O(volumes), no command is run and no disk touched.
"""

from __future__ import annotations

import platform
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from blocksnapd import __version__
from blocksnapd.metric_table import TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

    from blocksnapd.config import Config
    from blocksnapd.metric_table import Row


class Metrics:
    """All series of one daemon, in ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # It doubles every counter with a series that nothing of ours reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for row in TABLE:
            self._register(row)
        ProcessCollector(registry=registry)
        self._gauges["build_info"].labels(__version__, platform.python_version()).set(1)

    def configure(self, config: Config) -> None:
        """Make every series of the configured volumes and targets exist, and no others."""
        self.config_read(is_good=True)
        self._forget_others(
            {"volume": set(config.volumes), "target": set(config.targets), "space": set(config.cow)}
        )
        self._start({"target": tuple(config.targets)})
        for name, space in config.cow.items():
            self._gauges["cow_disk_reserve_bytes"].labels(name).set(space.reserve)
        for volume in config.lanes:
            self._start({"volume": (volume.name,), "target": (volume.target,)})
            names = tuple(hook.name for hook in volume.hooks)
            self._start({"volume": (volume.name,), "hook": names})
            where = (volume.name, volume.target)
            self._gauges["rpo_target_seconds"].labels(*where).set(volume.rpo_s)
            self._gauges["schedule_interval_seconds"].labels(volume.name).set(volume.every_s)
            if config.targets[volume.target].maintenance_key and volume.verify.structure_s:
                self._tell("verify_interval_seconds", volume.verify.structure_s, *where)
            if volume.drill is not None:
                seconds = volume.drill.every_s
                self._gauges["drill_interval_seconds"].labels(volume.name).set(seconds)
                self._gauges["drill_failed"].labels(*where)

    def _start(self, known: Mapping[str, tuple[str, ...]]) -> None:
        """Make the series exist whose labels are known by now."""
        for row in TABLE:
            for values in row.at_start(known):
                if values:  # without labels a series exists as soon as its metric does
                    self._family(row).labels(*values)

    def _forget_others(self, known: Mapping[str, set[str]]) -> None:
        """Drop the series of what is configured no more: an alert on them would never end."""
        for row in TABLE:
            if not row.labels:
                continue
            family = self._family(row)
            for sample in [s for found in family.collect() for s in found.samples]:
                if any(name in known and sample.labels.get(name) not in known[name]
                       for name in row.labels):  # fmt: skip
                    with suppress(KeyError):  # a histogram has many samples of one series
                        family.remove(*(sample.labels[name] for name in row.labels))

    def _family(self, row: Row) -> Gauge | Counter | Histogram:
        if row.kind == "gauge":
            return self._gauges[row.name]
        return (self._counters if row.kind == "counter" else self._histograms)[row.name]

    def config_read(self, *, is_good: bool) -> None:
        """A configuration was read, and taken or not."""
        self._gauges["config_last_reload_successful"].set(is_good)
        if is_good:
            self._gauges["config_last_reload_success_timestamp_seconds"].set_to_current_time()

    def volume(self, volume: str, *, driver: str, volume_id: str) -> None:
        """The volume was opened."""
        self._gauges["volume_info"].labels(volume, driver, volume_id).set(1)

    def paused(self, volume: str, since: float | None) -> None:
        """The schedule of the volume is paused since an instant, or is not."""
        self._gauges["volume_paused"].labels(volume).set(since is not None)
        self._tell("volume_paused_since_timestamp_seconds", since, volume)

    def run_started(self, volume: str, target: str) -> None:
        """A run began."""
        self._gauges["run_active"].labels(volume, target).set(1)
        self.run_progress(volume, target, done=0, expected=0)

    def run_progress(
        self, volume: str, target: str, *, done: int, expected: int, now: float | None = None
    ) -> None:
        """The active run dealt with ``done`` of ``expected`` bytes."""
        self._gauges["run_done_bytes"].labels(volume, target).set(done)
        self._gauges["run_expected_bytes"].labels(volume, target).set(expected)
        if now is not None:
            name = "run_last_progress_timestamp_seconds"
            self._gauges[name].labels(volume, target).set(now)

    def run_finished(
        self, volume: str, target: str, *, kind: str, result: str, code: str = ""
    ) -> None:
        """A run ended; ``code`` is the error's when it failed."""
        self._gauges["run_active"].labels(volume, target).set(0)
        self._counters["runs_total"].labels(volume, target, kind, result).inc()
        if result == "failed":
            code = code or "E-FAILED"
            self._counters["run_failures_total"].labels(volume, target, code).inc()

    def failures_in_a_row(self, volume: str, target: str, count: int) -> None:
        """So many runs failed since the last good one."""
        self._gauges["consecutive_failures"].labels(volume, target).set(count)

    def phase(self, phase: str, seconds: float) -> None:
        """A step of a run took ``seconds``."""
        self._histograms["phase_duration_seconds"].labels(phase).observe(seconds)

    def freeze(self, volume: str, seconds: float) -> None:
        """Writers were held for ``seconds``."""
        self._histograms["freeze_duration_seconds"].labels(volume).observe(seconds)

    def hook(self, volume: str, hook: str, seconds: float, *, failed: bool) -> None:
        """A hook took ``seconds``, and did what it was to do or ``failed``."""
        self._histograms["hook_duration_seconds"].labels(volume, hook).observe(seconds)
        self._counters["hook_failures_total"].labels(volume, hook).inc(int(failed))

    def full_scan(self, volume: str, reason: str) -> None:
        """The whole volume is read, for one of ``REASONS``."""
        self._counters["full_scans_total"].labels(volume, reason).inc()

    def point_committed(
        self, volume: str, target: str, *, time: float, changed: int, shipped: int, stored: int
    ) -> None:
        """A point became durable; its instant is ``time``."""
        self.last_point(volume, target, time)
        self._counters["changed_bytes_total"].labels(volume).inc(changed)
        self._counters["transferred_bytes_total"].labels(volume, target).inc(shipped)
        self._counters["stored_bytes_total"].labels(volume, target).inc(stored)

    def last_point(self, volume: str, target: str, time: float) -> None:
        """The newest durable point is of the instant ``time``; also told at start."""
        self._gauges["last_point_timestamp_seconds"].labels(volume, target).set(time)

    def points(self, volume: str, target: str, count: int) -> None:
        """The repository holds ``count`` points of the volume."""
        self._gauges["points"].labels(volume, target).set(count)

    def points_known(self, volume: str, target: str, *, held: int, oldest: float | None) -> None:
        """So many of the points are held, and the oldest one is of that instant."""
        self._gauges["points_held"].labels(volume, target).set(held)
        self._tell("oldest_point_timestamp_seconds", oldest, volume, target)

    def pruned(self, volume: str, target: str, count: int) -> None:
        """So many points of the volume were forgotten."""
        self._counters["pruned_points_total"].labels(volume, target).inc(count)

    def prune_ended(self, volume: str, target: str, *, is_blocked: bool, now: float) -> None:
        """A prune ended well, or a guard stopped it."""
        self._gauges["prune_blocked"].labels(volume, target).set(is_blocked)
        if not is_blocked:
            name = "prune_last_success_timestamp_seconds"
            self._gauges[name].labels(volume, target).set(now)

    def merged(self, volume: str, target: str, *, unmerged: int, forgotten: int) -> None:
        """A round of maintenance left so many points unmerged and forgotten."""
        self._gauges["unmerged_points"].labels(volume, target).set(unmerged)
        self._gauges["forgotten_points"].labels(volume, target).set(forgotten)

    def collected(self, volume: str, target: str, size: int) -> None:
        """So many bytes of objects were deleted for good."""
        self._counters["collected_bytes_total"].labels(volume, target).inc(size)

    def maintained(self, target: str, *, now: float) -> None:
        """A round of maintenance of the target went well."""
        self._gauges["maintenance_last_success_timestamp_seconds"].labels(target).set(now)

    def volume_size(self, volume: str, size: int) -> None:
        """The volume has ``size`` bytes."""
        self._gauges["volume_size_bytes"].labels(volume).set(size)

    def cow(self, volume: str, *, size: int, used: int, full_at: float | None = None) -> None:
        """The COW device of the volume's snapshot has ``used`` of ``size`` bytes in use.

        ``full_at`` is when it will be full, in seconds since the epoch; None: it does not fill.
        """
        self._gauges["cow_size_bytes"].labels(volume).set(size)
        self._gauges["cow_used_bytes"].labels(volume).set(used)
        self._tell("cow_full_timestamp_seconds", full_at, volume)

    def cow_extended(self, volume: str) -> None:
        """A COW device was made larger."""
        self._counters["cow_extends_total"].labels(volume).inc()

    def cow_overflow(self, volume: str) -> None:
        """The kernel gave a snapshot up."""
        self._counters["cow_overflows_total"].labels(volume).inc()

    def cow_disk_free(self, space: str, free: int) -> None:
        """The disk under a COW space has ``free`` bytes left."""
        self._gauges["cow_disk_free_bytes"].labels(space).set(free)

    def certificate(self, target: str, role: str, ends: float) -> None:
        """A certificate for the target is good until ``ends``."""
        self._gauges["tls_certificate_expiry_timestamp_seconds"].labels(target, role).set(ends)

    def target(
        self, target: str, *, is_up: bool, free: int | None = None, rtt: float | None = None
    ) -> None:
        """The target answered or did not; with the room it has and how long that took."""
        self._gauges["target_up"].labels(target).set(is_up)
        self._tell("target_free_bytes", free, target)
        self._tell("target_rtt_seconds", rtt, target)

    def target_clock(self, target: str, offset_s: float | None) -> None:
        """The target's clock is so far ahead of this host's; None: nobody knows."""
        self._tell("target_clock_offset_seconds", offset_s, target)

    def target_line(
        self, target: str, *, sent: int, throttled_s: float, retries: int, stalls: int
    ) -> None:
        """So much more happened on the way to a target since this was told last."""
        for name, more in (
            ("target_sent_bytes_total", sent),
            ("target_throttled_seconds_total", throttled_s),
            ("target_retries_total", retries),
            ("target_stalls_total", stalls),
        ):
            self._counters[name].labels(target).inc(more)

    def proof(self, volume: str, *, checked: int, mismatched: int) -> None:
        """The previous point was compared with the old content the snapshot kept."""
        self._counters["proof_checked_blocks_total"].labels(volume).inc(checked)
        self._counters["proof_mismatched_blocks_total"].labels(volume).inc(mismatched)

    def tracking_lied(self, volume: str, *, blocks: int) -> None:
        """A full compare found ``blocks`` changed of which nothing was tracked."""
        self._counters["untracked_blocks_total"].labels(volume).inc(blocks)

    def verified(
        self,
        volume: str,
        target: str,
        *,
        kind: str,
        is_whole: bool,
        corrupt: int,
        read: int,
        now: float,
    ) -> None:
        """A verify of ``kind`` (structure, data) read ``read`` bytes of packs.

        ``corrupt`` blocks are damaged; ``is_whole``: nothing at all is wrong.
        """
        self._gauges["corrupt_blocks"].labels(volume, target).set(corrupt)
        self._counters["verified_bytes_total"].labels(volume, target).inc(read)
        if is_whole:
            name = "verify_last_success_timestamp_seconds"
            self._gauges[name].labels(volume, target, kind).set(now)

    def drilled(
        self, volume: str, target: str, seconds: Mapping[str, float], *, is_good: bool, now: float
    ) -> None:
        """A drill of the volume ended at ``now``; its steps took so long."""
        self._gauges["drill_failed"].labels(volume, target).set(not is_good)
        for step, taken in seconds.items():
            self._gauges["drill_last_duration_seconds"].labels(volume, target, step).set(taken)
        if is_good:
            self._gauges["drill_last_success_timestamp_seconds"].labels(volume, target).set(now)

    def answered(self, method: str, route: str, code: int) -> None:
        """The control socket answered a request; ``route`` is the path's pattern."""
        self._counters["control_requests_total"].labels(method, route, str(code)).inc()

    def loop_lag(self, seconds: float) -> None:
        """The event loop came so much later to a task than it was due."""
        self._histograms["event_loop_lag_seconds"].observe(seconds)

    def _tell(self, name: str, value: float | None, *labels: str) -> None:
        """Set a gauge that is absent while nothing is known."""
        if value is not None:
            self._gauges[name].labels(*labels).set(value)
        else:
            with suppress(KeyError):
                self._gauges[name].remove(*labels)

    def _register(self, row: Row) -> None:
        name = f"blocksnap_{row.name}"
        if row.kind == "gauge":
            self._gauges[row.name] = Gauge(name, row.text, row.labels, registry=self.registry)
        elif row.kind == "counter":
            self._counters[row.name] = Counter(name, row.text, row.labels, registry=self.registry)
        else:
            self._histograms[row.name] = Histogram(
                name, row.text, row.labels, registry=self.registry, buckets=row.buckets
            )
