"""A run, seen through to its end: progress, then what became of it. Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from blocksnapctl import render, render_restore
from blocksnapctl.client import WaitOverError
from blocksnapd.control.messages import (
    EXIT_DAMAGED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_WAIT_OVER,
    EXIT_WARNINGS,
)
from blocksnapd.errors import UnreachableError

if TYPE_CHECKING:
    from blocksnapctl.client import Client
    from blocksnapctl.output import Output
    from blocksnapd.control.messages import Problem, Run

_CODES = {"success": EXIT_OK, "skipped": EXIT_OK, "warning": EXIT_WARNINGS,
          "cancelled": EXIT_INTERRUPTED}  # fmt: skip


def follow(
    client: Client,
    run_id: str,
    output: Output,
    *,
    deadline: float | None,
    is_ours: bool = False,
) -> int:
    """Show a run until it is done or, in monotonic time, ``deadline``; return the exit code.

    A run of a daemon goes on when we stop looking; one of a private worker (``is_ours``) ends.

    Raises:
        ProblemError: the daemon knows no such run. UnreachableError: it ended meanwhile.
    """
    try:
        last = last_of(client, run_id, output, deadline=deadline, is_ours=is_ours)
    except WaitOverError:
        return output.problem(wait_over(run_id, is_ours=is_ours))
    return _ended(last, output)


def last_of(
    client: Client,
    run_id: str,
    output: Output,
    *,
    deadline: float | None,
    is_ours: bool,
    is_data: bool = True,
) -> Run:
    """Show a run until it is done; return it as it ended. With ``is_data`` its JSON is printed.

    Raises:
        WaitOverError: it was not done by ``deadline``. Otherwise as ``follow``.
    """
    last: Run | None = None
    try:
        for found in client.stream("runs", run_id, "follow", deadline=deadline):
            last = cast("Run", found)
            if output.as_json and is_data:
                output.document(last)
            else:
                output.progress(render_restore.progress(last))
    except KeyboardInterrupt:
        output.say(f"Run {run_id} {_afterwards(run_id, is_ours=is_ours)}")
        raise
    if last is None or last.get("state") != "done":
        raise UnreachableError(
            f"the daemon ended before run {run_id} was done",
            effect="What the run did not commit is done again once the daemon is back.",
            hint="Look with: systemctl status blocksnapd",
        )
    return last


def wait_over(run_id: str, *, is_ours: bool) -> Problem:
    """Return what to say when the operator waits no longer."""
    return {
        "code": "E-WAIT",
        "message": f"run {run_id} was not done in time",
        "effect": f"It {_afterwards(run_id, is_ours=is_ours)}",
        "exit_code": EXIT_WAIT_OVER,
    }


def _afterwards(run_id: str, *, is_ours: bool) -> str:
    if is_ours:
        return "is stopped; what it has written so far is no whole image."
    return f"goes on. Look: blocksnapctl show {run_id}; stop it: blocksnapctl cancel {run_id}"


def _ended(run: Run, output: Output) -> int:
    if output.as_plain:
        output.data(render.runs_plain([run]))
    elif not output.as_json:
        output.data(render.run_ended(run))
    result, error = run.get("result"), run.get("error")
    if result == "failed":
        return output.problem(error) if error else EXIT_FAILED
    if run.get("damaged_bytes"):
        output.say(f"Not all of it is what it was: see {run.get('damaged_list')}")
        return EXIT_DAMAGED
    return _CODES.get(str(result), EXIT_FAILED)
