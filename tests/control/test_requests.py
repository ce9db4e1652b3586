"""Bytes from a client give a request or a usage error, and nothing else."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.control import requests
from blocksnapd.errors import UsageError

VALID_RUNS = [
    {"kind": "cycle", "volume": "vg0/home"},
    {"kind": "cycle", "volume": "vg0/home", "tags": ["release-7", "x.y_z"], "full": True},
    {"kind": "restore", "point": "p1", "to": "/x", "overwrite": True},
    {"kind": "verify"},
    {"kind": "verify", "volume": "vg0/home"},
    {"kind": "verify", "point": "p1"},
    {"kind": "verify", "volume": "vg0/home", "share": 0.05},
    {"kind": "prune", "volume": "vg0/home"},
    {"kind": "prune", "volume": "vg0/home", "dry_run": True},
    {"kind": "prune", "volume": "v", "policy": {"keep": ["all for 2h"]}},
    {
        "kind": "prune",
        "volume": "v",
        "policy": {
            "keep": ["1/h for 2d"],
            "keep_tags": ["x*"],
            "min_points": 1,
            "max_delete_pct": 100,
            "undelete": 86400.0,
        },
    },
]


@pytest.mark.parametrize("request_", VALID_RUNS)
def test_good_ones_come_through_unchanged(request_: dict[str, object]) -> None:
    assert requests.parse_run_request(json.dumps(request_).encode()) == request_


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\xff", "is not JSON"),
        ("[]", "the request: "),
        ("{}", "kind: Field required"),
        ('{"kind": "trim"}', "kind: "),
        ('{"kind": "prune"}', "a run of kind 'prune' needs 'volume'"),
        ('{"kind": "prune", "volume": "v", "full": true}', "'full' means nothing"),
        ('{"kind": "cycle", "volume": "v", "dry_run": true}', "'dry_run' means nothing"),
        ('{"kind": "prune", "volume": "v", "policy": {}}', "policy.keep: Field required"),
        ('{"kind": "prune", "volume": "v", "policy": {"keep": []}}', "policy.keep: "),
        ('{"kind": "prune", "volume": "v", "policy": {"keep": ["x"], "kep": 1}}', "policy.kep: "),
        ('{"kind": "prune", "volume": "v", "policy": {"keep": ["x"], "min_points": 0}}', "min_po"),
        ('{"kind": "prune", "volume": "v", "policy": {"keep": ["x"], "undelete": NaN}}', "undele"),
        ('{"kind": "cycle"}', "a run of kind 'cycle' needs 'volume'"),
        ('{"kind": "cycle", "volume": ""}', "volume: "),
        ('{"kind": "cycle", "volume": 3}', "volume: "),
        ('{"kind": "cycle", "volume": "v", "to": "/x"}', "'to' means nothing"),
        ('{"kind": "cycle", "volume": "v", "x": 1}', "x: Extra inputs"),
        ('{"kind": "cycle", "volume": "v", "tags": ["a b"]}', "tags.0: "),
        ('{"kind": "cycle", "volume": "v", "tags": "a"}', "tags: "),
        ('{"kind": "restore", "point": "p"}', "needs 'to'"),
        ('{"kind": "restore", "point": "p", "to": "x"}', "to: "),
        ('{"kind": "verify", "full": true}', "'full' means nothing"),
        ('{"kind": "verify", "share": 1.5}', "share: "),
        ('{"kind": "cycle", "volume": "v", "share": 0.5}', "'share' means nothing"),
    ],
)
def test_bad_ones_are_told_why(body: str, wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        requests.parse_run_request(body.encode("latin-1"))
    assert wanted in caught.value.message


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["kind", "volume", "tags", "full", "to", "until", "reason"]), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes(body: bytes) -> None:
    with contextlib.suppress(UsageError):
        assert requests.parse_run_request(body)["kind"] in {"cycle", "restore", "verify", "prune"}
    with contextlib.suppress(UsageError):
        assert set(requests.parse_hold(body)) <= {"until", "reason"}


@pytest.mark.parametrize(
    "request_", [{}, {"reason": "audit"}, {"until": "2026-12-01T00:00:00.000Z", "reason": ""}]
)
def test_holds(request_: dict[str, object]) -> None:
    assert requests.parse_hold(json.dumps(request_).encode()) == request_


def test_an_empty_body_holds_for_ever() -> None:
    assert requests.parse_hold(b"") == {}


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"[]", "the request: "),
        (b"{", "is not JSON"),
        (b'{"until": "tomorrow"}', "until: "),
        (b'{"until": "2026-12-01T00:00:00"}', "has no time zone"),
        (b'{"until": 5}', "until: "),
        (json.dumps({"reason": "x" * 201}).encode(), "reason: "),
    ],
)
def test_what_is_no_hold_is_told(body: bytes, wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        requests.parse_hold(body)
    assert wanted in caught.value.message
    assert caught.value.effect == "Nothing was changed."


@pytest.mark.parametrize(
    ("query", "wanted"),
    [({}, None), ({"wait": "30s"}, 30.0), ({"wait": "9d"}, requests.WAIT_MAX_S)],
)
def test_wait(query: dict[str, str], wanted: float | None) -> None:
    assert requests.parse_wait(query) == wanted


@pytest.mark.parametrize(("text", "wanted"), [("0", 0), ("17", 17), ("-50", -50)])
def test_since(text: str, wanted: int) -> None:
    assert requests.parse_since({"since": text}) == wanted


def test_bad_queries() -> None:
    for text in ("", "x", "--1", "1.5", "9" * 30):
        with pytest.raises(UsageError):
            requests.parse_since({"since": text})
    with pytest.raises(UsageError):
        requests.parse_wait({"wait": "soon"})
    with pytest.raises(UsageError):
        requests.parse_flag({"follow": "yes"}, "follow")
    assert requests.parse_flag({"follow": "1"}, "follow") is True
    assert requests.parse_flag({}, "follow") is False


def test_a_map_is_asked_for_in_bounds() -> None:
    assert requests.parse_map({}) == (64, 200, 0.0)
    query = {"regions": "1024", "cycles": "1", "since": "1970-01-01T00:01:00Z"}
    assert requests.parse_map(query) == (1024, 1, 60.0)


@given(name=st.sampled_from(["regions", "cycles", "since"]), text=st.text(max_size=12))
def test_any_other_map_is_refused(name: str, text: str) -> None:
    with contextlib.suppress(UsageError):
        found = requests.parse_map({name: text})
        assert 1 <= found.regions <= 1024
        assert 1 <= found.cycles <= 1000
