"""The daemon: builds every part, starts it, and ends it in good order.

start   sockets → open every volume (repairs what a crash left) → READY → tasks
stop    no new cycles → the step under way ends → state is on disk → sockets close
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from blocksnapd.control import unix_socket
from blocksnapd.control.events import EventLog
from blocksnapd.control.metrics_http import MetricsServer
from blocksnapd.cycle.hook_journal import HookJournal
from blocksnapd.cycle.hook_runner import HookRunner
from blocksnapd.cycle.lvm import Lvm
from blocksnapd.cycle.shared_snapshots import SharedSnapshots
from blocksnapd.errors import BlocksnapError, HostError
from blocksnapd.metrics import Metrics
from blocksnapd.runtime import loop_lag, notify
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.runtime.supervise import Supervisor
from blocksnapd.service import run_history
from blocksnapd.service.drill_book import DrillBook
from blocksnapd.service.drill_task import DrillTask
from blocksnapd.service.export_task import ExportTask
from blocksnapd.service.hooks import VolumeHooks
from blocksnapd.service.host_operations import HostOperations
from blocksnapd.service.lane_hooks import LaneHooks
from blocksnapd.service.lane_state import state_directory
from blocksnapd.service.maintenance import MaintenanceTask
from blocksnapd.service.opening import VolumeOpener
from blocksnapd.service.pausing import Pausing
from blocksnapd.service.plans import PlanBook
from blocksnapd.service.prune_answers import Pruners
from blocksnapd.service.pruning import Pruning
from blocksnapd.service.reloading import Reloader
from blocksnapd.service.renewing import Renewing
from blocksnapd.service.run_history import RunHistory
from blocksnapd.service.runs import RunBook
from blocksnapd.service.serving import serve, stop_signal
from blocksnapd.service.state_lock import state_lock
from blocksnapd.service.targets import TargetWatch
from blocksnapd.service.volume_task import VolumeTask
from blocksnapd.units import format_count

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from blocksnapd.config import Config, Volume
    from blocksnapd.control.access import Access

log = logging.getLogger(__name__)

STATUS_INTERVAL_S = 5.0
OPEN_S_MAX = 60.0  # whoever takes longer goes on opening while the others are protected
STOP_S_MAX = 90.0
# A scheduler that looked at nothing for so long is stuck; a cycle under way may take its time.
STUCK_AFTER_INTERVALS = 2  # of the watchdog


async def run_daemon(config: Config) -> None:
    """Protect the configured volumes until SIGTERM or SIGINT.

    Raises:
        BlocksnapError: the daemon could not start.
    """
    with state_lock(config.daemon.state_dir):
        await _run_daemon(config)


async def _run_daemon(config: Config) -> None:
    # Threads that hang at a disk or target must leave enough for all that still can work.
    threads = ThreadPoolExecutor(8 + 4 * len(config.lanes), "blocksnap")
    asyncio.get_running_loop().set_default_executor(threads)
    stop = stop_signal()
    clock = SystemClock()
    access = unix_socket.access_for(config.control.read_group, config.control.admin_group)
    events = await _open_events(config.daemon.state_dir, clock)
    handed_in = notify.listen_sockets()
    ours = _bind_what_is_missing(config.control.socket, access, handed_in)
    metrics = Metrics(CollectorRegistry())
    metrics.configure(config)
    history = RunHistory(os.path.join(config.daemon.state_dir, run_history.FILE_NAME))
    book = RunBook(clock, past=await asyncio.to_thread(history.load), ended=history.note)
    make = _task_maker(config, book=book, metrics=metrics, events=events, clock=clock)
    tasks = {label: t for name in config.volumes for label, t in make(config, name).items()}
    targets = TargetWatch(config.targets, metrics, clock)
    plans = PlanBook(os.path.join(config.daemon.state_dir, "plans"))
    pruning = Pruning(plans, book, say=events.say, metrics=metrics)
    pruners = Pruners(config.targets, clock)
    drill_book = DrillBook(os.path.join(config.daemon.state_dir, "drills"))
    drills = DrillTask(
        config, drill_book, book, _has_point(tasks), metrics=metrics, say=events.say, clock=clock
    )
    operations = HostOperations(
        tasks, targets, book, events, clock,
        pruning=pruning, pruners=pruners, drills=drills, drill_book=drill_book,
    )  # fmt: skip
    maintenance = MaintenanceTask(
        config, operations.refresh, metrics=metrics, say=events.say, clock=clock
    )
    exports = ExportTask(config, say=events.say, clock=clock)
    renewing = Renewing(config.targets, metrics=metrics, say=events.say, clock=clock)
    supervisor = Supervisor()
    reloader = Reloader(
        config, tasks, make, supervisor.passing,
        others=[targets, pruners, drills, maintenance, exports, renewing],
        metrics=metrics, say=events.say, clock=clock,
    )  # fmt: skip
    operations.reloading = reloader
    async with contextlib.AsyncExitStack() as stack:
        for sockets in (handed_in, ours):
            await serve(
                stack, operations, access, sockets,
                are_ours=sockets is ours, answered=metrics.answered,
            )  # fmt: skip
        await _serve_metrics(stack, metrics, config, events)
        async with supervisor:
            supervisor.eternal("events", events.write_forever())
            supervisor.eternal("run history", history.write_forever())
            opening: defaultdict[str, list[asyncio.Task[None]]] = defaultdict(list)
            for label, task in tasks.items():
                begun = supervisor.passing(f"open {label}", task.open())
                opening[task.settings.name].append(begun)
            await _wait_until_open(opening.values())
            supervisor.eternal("event loop", loop_lag.watch(clock, metrics.loop_lag))
            supervisor.eternal("targets", targets.run())
            supervisor.eternal("maintenance", maintenance.run())
            supervisor.eternal("drills", drills.run())
            supervisor.eternal("exports", exports.run())
            supervisor.eternal("certificates", renewing.run())
            reloader.start()
            supervisor.eternal("watchdog", notify.feed_watchdog(clock, _is_alive(tasks, clock)))
            supervisor.eternal("reload", _reload_on_signal(reloader))
            supervisor.eternal("status", _tell_status(operations, clock))
            operations.is_ready = True
            notify.ready(format_count(len(tasks), "volume"))
            log.info("ready: %d volumes", len(tasks))
            await stop.wait()
            await _stop_volumes(reloader)
            await pruning.close()
            await drills.close()
            events.say("stopped", "the daemon stopped in good order")
            await events.flush()
            await history.flush()
            supervisor.stop()


async def _open_events(state_dir: str, clock: SystemClock) -> EventLog:
    try:
        return await EventLog.open(state_dir, clock)
    except OSError as error:
        raise HostError(
            f"the event log in {state_dir} cannot be opened: {error.strerror}",
            effect="The daemon did not start; no point was harmed.",
            hint="Repair the disk that it lies on, or move events.jsonl away to begin a new log.",
        ) from error


def _bind_what_is_missing(
    path: str, access: Access, handed_in: list[socket.socket]
) -> list[socket.socket]:
    """Return the configured socket, unless systemd listens there and handed it in."""
    if any(listening.getsockname() == path for listening in handed_in):
        return []
    return [unix_socket.bind(path, access)]


async def _serve_metrics(
    stack: contextlib.AsyncExitStack, metrics: Metrics, config: Config, events: EventLog
) -> None:
    endpoint = MetricsServer(metrics.registry)
    try:
        await endpoint.start(config.metrics.listen)
    except HostError as error:
        events.say("metrics-unserved", error.sentences(), severity="error")
    stack.push_async_callback(endpoint.stop)


def _task_maker(
    config: Config, *, book: RunBook, metrics: Metrics, events: EventLog, clock: SystemClock
) -> Callable[[Config, str], dict[str, VolumeTask]]:
    """Return what makes the tasks of a volume, one a target, at start and after a reload."""
    # A slow target of a volume that has others takes none of the places that these wait for.
    places: defaultdict[str, asyncio.Semaphore] = defaultdict(
        lambda: asyncio.Semaphore(config.daemon.max_parallel_runs)
    )
    runner, lvm = HookRunner(), Lvm()

    def make(config: Config, name: str) -> dict[str, VolumeTask]:
        volume, directory = config.volumes[name], state_directory(config, name)
        freezes = [v.cow.freeze_max_s for v in config.volumes.values() if v.cow]
        lvm.suspend_s_max = max(freezes, default=2.0)
        pausing = Pausing(name, os.path.join(directory, "paused"), clock)
        hooks = VolumeHooks(volume, runner, HookJournal(directory), metrics, events.say)
        shared = _shared(volume, directory, events, clock)
        tasks = {}
        for lane in volume.lanes:
            own = LaneHooks(hooks, shared) if shared is not None else None
            tasks[lane.label] = VolumeTask(
                lane,
                VolumeOpener(
                    config, lane, lvm=lvm, clock=clock, say=events.say, shared=shared, hooks=own
                ),
                book=book, metrics=metrics, say=events.say, clock=clock,
                slots=places[lane.target if lane.further else ""],
                pausing=pausing, hooks=own or hooks,
            )  # fmt: skip
        return tasks

    return make


def _shared(
    volume: Volume, directory: str, events: EventLog, clock: SystemClock
) -> SharedSnapshots | None:
    """Return what the targets of ``volume`` share; None: it has one, or takes no snapshots."""
    if not volume.further or volume.cow is None:
        return None

    def tell(kind: str, message: str) -> None:
        events.say(kind, f"{volume.name}: {message}", severity="error", volume=volume.name)

    return SharedSnapshots(
        directory, volume.targets, every_s=volume.every_s, clock=clock, tell=tell
    )


async def _wait_until_open(opening: Iterable[list[asyncio.Task[None]]]) -> None:
    """Wait a while until every volume has opened for one of its targets, or failed to."""
    notify.status("repairing what a crash may have left")
    notify.extend_timeout(2 * OPEN_S_MAX)
    now = asyncio.get_running_loop().time
    end = now() + OPEN_S_MAX
    for lanes in opening:
        left_s = max(0.0, end - now())
        done, late = await asyncio.wait(lanes, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        for straggler in () if done else late:
            log.warning("%s takes long: does its target answer?", straggler.get_name())


async def _reload_on_signal(reloader: Reloader) -> None:
    """Reload at each SIGHUP; what is wrong with the configuration is in the log."""
    hangup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    while True:
        await hangup.wait()
        hangup.clear()
        notify.reloading()
        with contextlib.suppress(BlocksnapError):
            await reloader.reload()
        notify.ready(format_count(len(reloader.config.volumes), "volume"))


async def _stop_volumes(reloader: Reloader) -> None:
    notify.stopping("ending the step under way")
    notify.extend_timeout(STOP_S_MAX)
    for name in await reloader.stop(STOP_S_MAX):
        log.warning("volume %s did not end in time", name)


def _has_point(tasks: dict[str, VolumeTask]) -> Callable[[str], bool]:
    def check(name: str) -> bool:
        opened = [task.opened for task in tasks.values() if task.settings.name == name]
        return any(parts is not None and parts.catalogue.newest() is not None for parts in opened)

    return check


def _is_alive(tasks: dict[str, VolumeTask], clock: SystemClock) -> Callable[[], bool]:
    stuck_after_s = STUCK_AFTER_INTERVALS * (notify.watchdog_interval_s() or math.inf)

    def check() -> bool:
        return all(
            task.is_at_work or clock.monotonic() - task.last_turn < stuck_after_s
            for task in tasks.values()
        )

    return check


async def _tell_status(operations: HostOperations, clock: SystemClock) -> None:
    while True:
        states = [v["state"] for v in (await operations.status())["volumes"]]
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        notify.status(", ".join(f"{n} {state}" for state, n in counts.items()) or "no volumes")
        await clock.sleep(STATUS_INTERVAL_S)
