"""Why a volume makes no points by itself: somebody paused it, or it is being restored in place.

Both are in one small file, so that neither a restart nor a crash ends them. A restore in place
begins with a *lease* of the process that writes. Until it says that it writes, its death ends the
lease; from then on the volume may hold a mixture of two points, and only finishing it, undoing it
or somebody's word ends it.
"""

from __future__ import annotations

import os
import secrets
import threading
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blocksnapd.control.messages import SCHEMA, format_time
from blocksnapd.errors import BusyError, NotFoundError, RefusedError
from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from blocksnapd.control.messages import Problem, Who
    from blocksnapd.control.pause_messages import Paused
    from blocksnapd.ports import Clock

SIZE_MAX: Final = 1 << 16
HALF_RESTORED: Final = "E-HALF-RESTORED"
_UNREADABLE: Final = "why it was paused cannot be read any more"


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Pause(_Record):
    """Somebody paused the schedule; ``until`` and ``since`` are seconds since the epoch."""

    since: float
    until: float | None = None
    reason: str = ""
    who: str = ""


class Lease(_Record):
    """Somebody writes to the volume: the process ``pid``, which began at ``begun``."""

    lease_id: Annotated[str, Field(min_length=1)]
    point: str
    since: float
    who: str = ""
    pid: int = 0
    begun: int = 0
    safety: str = ""
    writing: bool = False


class _State(_Record):
    pause: Pause | None = None
    lease: Lease | None = None


class Pausing:
    """What holds the schedule of one volume. Thread-safe; methods that change it block on a disk.

    Args:
        volume: its name, for what is said.
        path: the file that remembers it; without one it is remembered in memory only.
        clock: what time it is.
    """

    def __init__(self, volume: str, path: str, clock: Clock) -> None:
        self._volume, self._path, self._clock = volume, path, clock
        self._lock = threading.Lock()
        self._state = self._load()

    @property
    def may_hold(self) -> bool:
        """Whether it is worth asking ``holds``, which may block."""
        return self._state.pause is not None or self._state.lease is not None

    def holds(self) -> bool:
        """Return whether the schedule may not start a run now; ends what is over by itself."""
        if not self.may_hold:
            return False
        with self._lock:
            state = self._state
            pause, lease = state.pause, state.lease
            if pause is not None and pause.until is not None and pause.until <= self._clock.now():
                pause = None
            if lease is not None and not lease.writing and not is_alive(lease.pid, lease.begun):
                lease = None
            if (pause, lease) != (state.pause, state.lease):
                self._keep(_State(pause=pause, lease=lease))
            return pause is not None or lease is not None

    def check_asked(self, lease_id: str) -> None:
        """Let a run through that somebody asked for, or refuse it.

        Raises:
            RefusedError: the volume is being restored in place, by somebody else.
        """
        self.holds()
        lease = self._state.lease
        if lease is not None and lease.lease_id != lease_id:
            said = self._half(lease) or {"message": self._text(lease), "effect": "", "hint": ""}
            raise RefusedError(
                said["message"], effect=f"No point is made. {said['effect']}".strip(),
                hint=said["hint"] or "Wait for its end, or stop the command that restores.",
            )  # fmt: skip
        if lease is None and lease_id:
            raise self._unknown(lease_id)

    def pause(self, seconds: float | None, reason: str, who: Who) -> None:
        """Start no run by itself for so long; None: until somebody resumes it."""
        now = self._clock.now()
        until = None if seconds is None else now + seconds
        with self._lock:
            pause = Pause(since=now, until=until, reason=reason, who=who.get("login", ""))
            self._keep(_State(pause=pause, lease=self._state.lease))

    def resume(self, *, force: bool) -> None:
        """End the pause; with ``force`` also a restore that was not finished.

        Raises:
            RefusedError: a restore in place was not finished, and not ``force``.
            BusyError: it is under way.
        """
        with self._lock:
            lease = self._state.lease
            if lease is not None and is_alive(lease.pid, lease.begun):
                raise BusyError(
                    self._text(lease), effect="It stays paused.",
                    hint="It goes on by itself once that is done. To stop it: "
                    f"kill {lease.pid}, the process that restores.",
                )  # fmt: skip
            half = None if lease is None else self._half(lease)
            if half is not None and not force:
                raise RefusedError(
                    half["message"], effect=half["effect"],
                    hint=f"{half['hint']} To keep what it holds now: blocksnapctl resume "
                    f"{self._volume} --yes",
                )  # fmt: skip
            self._keep(_State())

    def begin(self, point: str, who: Who) -> Paused:
        """Begin a restore in place to ``point``, or take over one that was interrupted.

        Raises:
            BusyError: another one is under way.
        """
        with self._lock:
            state, pid = self._state, who.get("pid", 0)
            former = state.lease
            if former is not None and is_alive(former.pid, former.begun):
                raise BusyError(
                    self._text(former), effect="Nothing was written by this command.",
                    hint="Wait for its end.",
                )  # fmt: skip
            lease = Lease(
                lease_id=f"z{secrets.token_hex(8)}", point=point, since=self._clock.now(),
                who=who.get("login", ""), pid=pid, begun=begun_at(pid),
                safety=former.safety if former is not None and former.writing else "",
                writing=former is not None and former.writing,
            )  # fmt: skip
            self._keep(_State(pause=state.pause, lease=lease))
        return self._lease_message(lease)

    def note(self, lease_id: str, *, safety: str | None, writing: bool | None) -> Paused:
        """Remember by which point a restore can be undone, and that it writes from now on.

        Raises:
            NotFoundError: that lease is over.
        """
        with self._lock:
            lease = self._leased(lease_id)
            changed = lease.model_copy(
                update={
                    "safety": lease.safety if safety is None else safety,
                    "writing": lease.writing if writing is None else writing,
                }
            )
            self._keep(_State(pause=self._state.pause, lease=changed))
        return self._lease_message(changed)

    def end(self, lease_id: str) -> None:
        """End a restore in place: the volume is what it was to be.

        Raises:
            NotFoundError: that lease is over.
        """
        with self._lock:
            self._leased(lease_id)
            self._keep(_State(pause=self._state.pause))

    def message(self) -> Paused | None:
        """Return what status tells of it; None when nothing holds the schedule."""
        if not self.holds():
            return None
        state = self._state
        if state.lease is not None:
            return self._lease_message(state.lease)
        if state.pause is None:
            return None
        pause = state.pause
        return {
            "schema": SCHEMA, "since": format_time(pause.since), "reason": pause.reason,
            "until": None if pause.until is None else format_time(pause.until), "who": pause.who,
        }  # fmt: skip

    def problem(self) -> Problem | None:
        """Return what is wrong: a restore that was begun, and that nobody goes on with."""
        lease = self._state.lease
        return None if lease is None else self._half(lease)

    def _lease_message(self, lease: Lease) -> Paused:
        return {
            "schema": SCHEMA, "id": lease.lease_id, "since": format_time(lease.since),
            "until": None, "reason": self._text(lease), "who": lease.who, "point": lease.point,
            "safety": lease.safety, "writing": lease.writing,
        }  # fmt: skip

    def _text(self, lease: Lease) -> str:
        if is_alive(lease.pid, lease.begun):
            return f"{self._volume} is being restored in place to {lease.point}"
        return f"{self._volume}: a restore in place to {lease.point} was not finished"

    def _half(self, lease: Lease) -> Problem | None:
        if not lease.writing or is_alive(lease.pid, lease.begun):
            return None
        return {
            "type": "error", "code": HALF_RESTORED, "message": self._text(lease),
            "effect": "The volume holds a mixture of two points: do not mount it. No points are "
            "made; those that there are are whole.",
            "hint": "Finish it: blocksnapctl restore "
            f"{lease.point} --in-place --key FILE; or undo it: blocksnapctl restore "
            f"{lease.safety} --in-place --key FILE",
            "exit_code": RefusedError.exit_code, "retryable": False,
        }  # fmt: skip

    def _leased(self, lease_id: str) -> Lease:
        lease = self._state.lease
        if lease is None or lease.lease_id != lease_id:
            raise self._unknown(lease_id)
        return lease

    def _unknown(self, lease_id: str) -> NotFoundError:
        return NotFoundError(
            f"{self._volume} is not, or no longer, restored in place by {lease_id}",
            effect="Nothing was changed by this request.",
            hint="Somebody ended it, or began another: see blocksnapctl status.",
        )

    def _keep(self, state: _State) -> None:
        if self._path:
            durable.make_dirs(os.path.dirname(self._path))
            if state == _State():
                durable.remove(self._path)
            else:
                durable.replace(self._path, state.model_dump_json().encode())
        self._state = state

    def _load(self) -> _State:
        try:
            with open(self._path, "rb") as file:
                return _State.model_validate_json(file.read(SIZE_MAX))
        except FileNotFoundError:
            return _State()
        except (OSError, ValidationError):
            # It was paused: better no new point for a while than one of a mixture.
            return _State(pause=Pause(since=self._clock.now(), reason=_UNREADABLE))


def begun_at(pid: int) -> int:
    """Return when the process ``pid`` began, in the kernel's count; 0 when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def is_alive(pid: int, begun: int) -> bool:
    """Return whether the process ``pid`` is still the one that ``begun_at`` was asked about."""
    return begun != 0 and begun_at(pid) == begun
