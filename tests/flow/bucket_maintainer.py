"""Maintenance of a bucket without the days that it leaves between its steps in life, a program.

    python -m tests.flow.bucket_maintainer URL KEY CREDENTIALS UNTIL

Forgets, merges, publishes lists and sweeps; sessions are shorter than it believes, as they are
there. What it tells is printed as JSON, one line per event.
"""

from __future__ import annotations

import json
import sys
import time

from blocksnapd.errors import StoreError
from blocksnapd.keep_rules import parse_rule
from blocksnapd.maintain.collect_rules import Patience
from blocksnapd.maintain.maintainer import Orders, Round
from blocksnapd.maintain.retention import Policy
from blocksnapd.model import Access
from blocksnapd.store.keys import load_maintenance
from blocksnapd.store.places import open_store

POLICY = Policy((parse_rule("all for 1s"),), min_points=2, max_delete_pct=100, undelete_us=0)
PATIENCE = Patience(young_s=0, leftover_s=9, wait_s=1, session_s=8)
ORDERS = Orders(POLICY, structure_s=0, data_per_day=0, collect_s=0, patience=PATIENCE)


def tell(kind: str, message: str, *, severity: str = "info", **data: object) -> None:
    """Print an event."""
    print(json.dumps([kind, message, severity, data]), flush=True)


def main(url: str, key: str, credentials: str, until: str) -> None:
    """Make one round after the other until then; a bucket that is away is told."""
    store, opened = open_store(url, Access(credentials=credentials)), load_maintenance(key)
    while time.time() < float(until):
        try:
            for volume_id in store.children("v/"):
                Round(store, opened, volume_id, ORDERS, tell, time.time).run()
        except StoreError as error:
            tell("place-failed", error.sentences(), severity="error")


if __name__ == "__main__":
    main(*sys.argv[1:])
