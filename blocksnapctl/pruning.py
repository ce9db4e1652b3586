"""The verbs about which points are kept: prune, hold, release, undelete. Edge."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from blocksnapctl import render, render_plan
from blocksnapctl.choosing import found_point, selector_of
from blocksnapctl.client import WaitOverError
from blocksnapctl.following import last_of, wait_over
from blocksnapctl.times import local_iso, read_time
from blocksnapctl.zone import local_now
from blocksnapd.control.messages import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_WARNINGS,
    Plan,
    Problem,
    format_time,
)
from blocksnapd.errors import UsageError
from blocksnapd.units import parse_duration

if TYPE_CHECKING:
    import argparse

    from blocksnapctl.client import Client
    from blocksnapctl.commands import Context
    from blocksnapd.control.messages import Point, Run

_NOTHING = "Nothing was changed."


def prune(context: Context) -> int:
    """Forget what retention does not keep, or show it; or do a plan that was shown."""
    arguments = context.arguments
    if arguments.apply is not None and arguments.volume is not None:
        raise UsageError("a plan names its volume itself: leave it out", effect=_NOTHING)
    policy = _policy(arguments)
    with context.reader() as client:
        if arguments.apply is not None:
            plan = cast("Plan", client.post("plans", arguments.apply, "apply", body={}))
            _show(context, plan)
            return EXIT_OK
        places = [(arguments.volume, arguments.of_target)]
        if arguments.volume is None:
            places = _places(context, client)
        codes = [_prune(context, client, *place, policy) for place in places]
    return max(codes, key=lambda code: (code not in {EXIT_OK, EXIT_WARNINGS}, code))


def _prune(
    context: Context, client: Client, volume: str, target: str | None, policy: dict[str, Any]
) -> int:
    request: dict[str, Any] = {"kind": "prune", "volume": volume}
    if target:
        request["target"] = target
    if context.arguments.dry_run:
        request["dry_run"] = True
    if policy:
        request["policy"] = policy
    run_id, out = client.post("runs", body=request)["id"], context.output
    is_ours = context.arguments.repo is not None
    try:
        run = last_of(
            client, run_id, out, deadline=context.deadline, is_ours=is_ours, is_data=False
        )
    except WaitOverError:
        return out.problem(wait_over(run_id, is_ours=is_ours))
    if run.get("plan"):
        _show(context, cast("Plan", client.get("plans", run["plan"])))
    for warning in run.get("warnings", []):
        out.say(f"{volume}: {warning}")
    if run.get("result") not in {"success", "warning"}:
        return _failed(context, run)
    return EXIT_WARNINGS if run.get("result") == "warning" else EXIT_OK


def _failed(context: Context, run: Run) -> int:
    error = run.get("error")
    if not error:
        return EXIT_FAILED
    if run.get("plan"):
        hint = f"To go on: {_apply_command(context, run['plan'])}"
        error = cast("Problem", {**error, "hint": hint})
    return context.output.problem(error)


def _show(context: Context, plan: Plan) -> None:
    out = context.output
    if out.as_json:
        out.document(plan)
    elif out.as_plain:
        out.data(render_plan.plan_plain(plan))
    elif plan["applied"] or (not plan["forget"] and not context.arguments.dry_run):
        out.data(render_plan.applied(plan))
    else:
        out.data(render_plan.plan(plan))
        if context.arguments.dry_run:
            command = _apply_command(context, plan["id"])
            out.data(render_plan.refused(plan, command, datetime.now(UTC)))


def _apply_command(context: Context, plan_id: str) -> str:
    arguments = context.arguments
    if arguments.repo is None:
        return f"blocksnapctl prune --apply {plan_id}"
    return f"blocksnapctl --repo {arguments.repo} prune --key {arguments.key} --apply {plan_id}"


def _policy(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what to keep, as a request says it; empty when the daemon knows."""
    named = {
        "keep": arguments.keep, "keep_tags": arguments.keep_tag,
        "min_points": arguments.min_points, "max_delete_pct": arguments.max_delete_pct,
        "undelete": arguments.undelete,
    }  # fmt: skip
    found = {key: value for key, value in named.items() if value not in (None, [])}
    if found and arguments.repo is None:
        raise UsageError(
            "the daemon keeps what its configuration says", effect=_NOTHING,
            hint="Change [retention.NAME] there, or name the repository: --repo URL --key FILE.",
        )  # fmt: skip
    if arguments.repo is not None and arguments.apply is None and not arguments.keep:
        raise UsageError(
            "a repository does not know what to keep", effect=_NOTHING,
            hint="Say it: --keep 'all for 2h' --keep '1/h for 2d' …",
        )  # fmt: skip
    return found


def _places(context: Context, client: Client) -> list[tuple[str, str | None]]:
    """Return every volume that has something to say what to keep, and its targets."""
    found: list[tuple[str, str | None]]
    wanted = context.arguments.of_target
    if context.arguments.repo is not None:
        found = [
            (v, None) for v in dict.fromkeys(p["volume"] for p in client.get("points")["points"])
        ]
    else:
        volumes = [v for v in client.get("volumes")["volumes"] if v.get("keep")]
        found = [(v["volume"], v["target"]) for v in volumes if wanted in (None, v["target"])]
    if not found:
        raise UsageError(
            "no volume has points and a retention", effect=_NOTHING,
            hint='Write [retention.NAME], and retention = "NAME" in [defaults].',
        )  # fmt: skip
    return found


def hold(context: Context) -> int:
    """Let nothing drop a point."""
    arguments, body = context.arguments, {}
    if arguments.until is not None:
        body["until"] = format_time(_instant(arguments.until, local_now()).timestamp())
    if arguments.reason is not None:
        body["reason"] = arguments.reason
    return _change(context, "hold", body)


def release(context: Context) -> int:
    """Leave a held point to the retention again."""
    return _change(context, "release", {})


def undelete(context: Context) -> int:
    """Bring a forgotten point back, and hold it."""
    return _change(context, "undelete", {})


def _change(context: Context, deed: str, body: dict[str, str]) -> int:
    out, selector = context.output, selector_of(context.arguments, context.arguments.point)
    assert selector is not None
    with context.reader() as client:
        if "@" in selector:  # and a time has to be understood here
            selector = found_point(out, client, selector)["id"]
        found = client.post("points", selector, deed, body=body)
    point = cast("Point", found)
    if out.as_json:
        out.document(found)
    elif out.as_plain:
        out.data(render.points_plain([point]))
    else:
        state = render.kept(point, local_now())
        shown = "left to the retention" if state == "-" else state
        when = local_iso(point["time"], local_now().tzinfo)
        out.data(render.clean(f"{point['id']}  {point['volume']}  {when}  {shown}"))
        if deed == "undelete":
            out.say(f"Once it need not stay: blocksnapctl release {point['id']}")
    return EXIT_OK


def _instant(text: str, now: datetime) -> datetime:
    """Return the instant that ``text`` names: a time as ``times`` tells, or how long from now."""
    try:
        return datetime.fromtimestamp(now.timestamp() + parse_duration(text), UTC)
    except (ValueError, OverflowError, OSError):
        pass
    try:
        return read_time(text, now)
    except UsageError as error:
        raise UsageError(
            f"{error.message}: nothing to hold a point until", effect=_NOTHING, hint=error.hint
        ) from error
