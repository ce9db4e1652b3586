"""``python -m tests.sim SEED [COUNT] [--jobs N] [--steps N]``: play histories, tell which broke."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.sim.history import STEPS, FailedSeedError, run


def play(seed: int, steps: int) -> tuple[int, int, str]:
    """Play one history; return its seed, its points, and what broke."""
    try:
        return seed, run(seed, steps=steps).points, ""
    except FailedSeedError as error:
        return seed, 0, str(error)


def play_many(first: int, count: int, *, jobs: int, steps: int = STEPS) -> tuple[int, list[str]]:
    """Play ``count`` histories; return how many points they made, and what broke in each."""
    seeds = range(first, first + count)
    if jobs == 1 or count == 1:
        results = [play(seed, steps) for seed in seeds]
    else:
        with ProcessPoolExecutor(jobs) as pool:
            results = list(pool.map(play, seeds, [steps] * count, chunksize=4))
    return sum(points for _, points, _ in results), [said for _, _, said in results if said]


def main() -> int:
    """Read the arguments, play, print; 1 when a seed broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int, nargs="?", default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    started = time.monotonic()
    points, broken = play_many(args.seed, args.count, jobs=args.jobs, steps=args.steps)
    for said in broken:
        print(said, end="\n\n")
    print(
        f"{args.count} histories from seed {args.seed}: {points} points committed and read back, "
        f"{len(broken)} broken; {time.monotonic() - started:.1f} s"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
