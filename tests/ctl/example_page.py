"""A volume with a life, as its page shows it: made up, always the same. Pure."""

from __future__ import annotations

import random
from typing import Any

from blocksnapctl.page import Findings
from blocksnapd.control.messages import format_time

NOW = 1_795_356_300.0  # 2026-11-22T14:05:00Z
MIB = 1 << 20
HOSTILE = """<script>alert('x')</script>"&<img src=x onerror=alert(1)>"""


def findings(*, name: str = "vg0/home", tag: str = "release-7", said: str = "") -> Findings:
    """Return two days of points every quarter of an hour, with a hole and a bad evening."""
    dice = random.Random(4)
    points: list[dict[str, Any]] = []
    for seq in range(1, 193):
        if 60 <= seq < 70 or seq in (150, 151, 152):
            continue
        late = seq > 152
        changed = int(dice.lognormvariate(3, 1) * MIB)
        points.append({
            "schema": 1, "id": f"p{seq:016x}", "volume": name, "target": "near",
            "seq": seq if seq < 150 else seq - 3 * late, "size": 200 << 30, "block_size": 4096,
            "time": format_time(NOW - 900 * (192 - seq) - 240), "kind": "delta",
            "method": "tracked", "changed_bytes": changed, "stored_bytes": changed // 3,
            "tags": [tag] if seq % 40 == 0 else [],
        })  # fmt: skip
    points[3]["held"] = {"since": "", "until": None, "reason": said or "audit"}
    cycles = [
        {"since": None, "time": p["time"], "points": 1, "changed_bytes": p["changed_bytes"],
         "full": number == 0, "unknown": int(number == 90)}
        for number, p in enumerate(points)
    ]  # fmt: skip
    region = (200 << 30) // 40
    matrix = [
        [int(region * dice.random() ** 9) if dice.random() < 0.25 or r in (4, 5, 22) else 0
         for r in range(40)] if not c["full"] and not c["unknown"] else [0] * 40
        for c in cycles
    ]  # fmt: skip
    change_map = {
        "schema": 1, "volume": name, "size": 200 << 30, "block_size": 4096, "left_out": 0,
        "region_size": region, "regions": 40, "cycles": cycles, "matrix": matrix,
    }  # fmt: skip
    step = {"name": "readable", "result": "success", "seconds": 4.2, "method": "", "found": []}
    drill = {
        "ended": format_time(NOW - 86400), "point": "p00000000000000a0", "result": "warning",
        "steps": [step, {**step, "name": "fsck", "found": [said or "2 orphans were cleared"]}],
    }  # fmt: skip
    check = {
        "time": format_time(NOW - 40000),
        "type": "verified",
        "severity": "info",
        "message": said or "179 points are whole (structure).",
    }
    status = {
        "state": "protected", "exposure": 240.0, "rpo": 1800.0, "every": 900.0, "target": "near",
        "last_point": points[-1], "next_run": format_time(NOW + 660),
        "cow": {"size": 20 << 30, "used": 3 << 30},
        "causes": [{"message": said, "effect": "", "hint": ""}] if said else [],
    }  # fmt: skip
    return Findings(
        name, NOW, status, points, change_map, "", [drill], [check],
    )  # fmt: skip
