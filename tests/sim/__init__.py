"""Months of a repository's history from a seed, with faults, against a model that remembers all.

    python -m tests.sim SEED [COUNT]     runs COUNT histories from SEED on, on all processors

``world.py`` holds the place, the clock and the model; ``source.py`` and ``maintenance.py`` do what
a host and its maintenance do, through the real code; ``damage.py`` spoils objects; ``history.py``
draws the operations and checks the invariants after each.
"""
