"""Fixtures for all tests: machines of the lab, and what happens where the lab is missing."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.lab.machine import Machine, missing
from tests.servers.rclone import Rclone
from tests.servers.seaweed import SeaweedFs

# The command line shows times in the machine's zone; what the tests expect of it is UTC.
os.environ["TZ"] = "UTC"
time.tzset()

S = TypeVar("S", SeaweedFs, Rclone)
MakeMachine = Callable[..., Machine]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what waits longest for others, so that nobody waits for it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("lab") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip lab tests aloud where the lab is missing; under make, fail by name instead."""
    if item.get_closest_marker("lab") is None:
        return
    lacks = missing()
    if not lacks:
        return
    sentence = "the lab needs " + ", ".join(lacks)
    if os.environ.get("BLOCKSNAP_LAB_REQUIRED"):
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


@pytest.fixture
def make_machine() -> Iterator[MakeMachine]:
    """Make lab machines, ``Machine``'s arguments without the folder; all are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="blocksnap-lab-"))
    made: list[Machine] = []

    def make(*args: Any, **kwargs: Any) -> Machine:
        made.append(Machine(folder / f"m{len(made)}", *args, **kwargs))
        return made[-1]

    yield make
    for machine in made:
        machine.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedFs]:
    """A SeaweedFS for all tests: each takes a prefix of its own, none stops it."""
    with running(SeaweedFs) as found:
        yield found


@pytest.fixture
def own_seaweed() -> Iterator[SeaweedFs]:
    """A SeaweedFS for one test alone, which may kill it."""
    with running(SeaweedFs) as found:
        yield found


@pytest.fixture
def rclone() -> Iterator[Rclone]:
    """A store that ignores conditions."""
    with running(Rclone) as found:
        yield found


@contextmanager
def running(server: type[S]) -> Iterator[S]:
    """Start a server of another's making; say aloud where it is missing, under make by failing."""
    lacks = server.missing()
    if lacks and os.environ.get("BLOCKSNAP_LAB_REQUIRED"):
        pytest.fail(lacks, pytrace=False)
    if lacks:
        pytest.skip(lacks)
    made = server()
    try:
        made.start()
        yield made
    finally:
        made.close()
