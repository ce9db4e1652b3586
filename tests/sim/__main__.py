"""``python -m tests.sim SEED [COUNT] [--jobs N] [--steps N]``: play histories, tell which broke."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.sim.history import STEPS, FailedSeedError, run


def play(seed: int, steps: int) -> tuple[Counter[str], str]:
    """Play one history; return what happened how often, and what broke."""
    try:
        outcome = run(seed, steps=steps)
    except FailedSeedError as error:
        return Counter(), str(error)
    points = Counter(points=outcome.points, expired=outcome.expired)
    return points + outcome.counts + outcome.events, ""


def play_many(
    first: int, count: int, *, jobs: int, steps: int = STEPS
) -> tuple[Counter[str], list[str]]:
    """Play ``count`` histories; return what happened how often, and what broke in each."""
    seeds = range(first, first + count)
    if jobs == 1 or count == 1:
        results = [play(seed, steps) for seed in seeds]
    else:
        with ProcessPoolExecutor(jobs) as pool:
            results = list(pool.map(play, seeds, [steps] * count, chunksize=4))
    return sum((c for c, _ in results), Counter()), [said for _, said in results if said]


def main() -> int:
    """Read the arguments, play, print; 1 when a seed broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int, nargs="?", default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    started = time.monotonic()
    counts, broken = play_many(args.seed, args.count, jobs=args.jobs, steps=args.steps)
    for said in broken:
        print(said, end="\n\n")
    print(
        f"{args.count} histories from seed {args.seed}: {counts['points']} points read back at "
        f"their ends, {len(broken)} broken; {time.monotonic() - started:.1f} s"
    )
    print(", ".join(f"{what} {count}" for what, count in sorted(counts.items())))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
