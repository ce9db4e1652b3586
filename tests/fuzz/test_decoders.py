"""Any bytes give a value or a documented error, in bounded memory and time."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.errors import BlocksnapError
from tests.fuzz.decoders import Decoder, all_decoders
from tests.fuzz.mutations import Samples, spoiled

DECODERS = all_decoders()
EXAMPLES = 300
EXAMPLES_LONG = 3000
SECONDS_MAX = 3.0


def check(decoder: Decoder, data: bytes) -> None:
    """Decode ``data``; fail on any other error, and on memory or time beyond the bounds."""
    tracemalloc.start()
    started = time.thread_time()
    try:
        with suppress(BlocksnapError):
            decoder.decode(data)
    finally:
        took = time.thread_time() - started
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    allowed = decoder.memory(len(data))
    assert peak <= allowed, f"{len(data)} bytes took {peak} bytes of memory, {allowed} are allowed"
    assert took <= SECONDS_MAX, f"{len(data)} bytes took {took:.1f} s"


def fuzz(decoder: Decoder, examples: int) -> None:
    """Give ``decoder`` that many inputs."""
    strategy = spoiled(Samples(decoder.samples()))

    @settings(
        max_examples=examples, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def run(data):
        check(decoder, data.draw(strategy))

    run()


@pytest.mark.parametrize("name", DECODERS)
def test_valid_bytes_are_decoded(name):
    """What fuzzing starts from is not refused: it would test nothing."""
    decoder = DECODERS[name]
    results = []
    for data in decoder.samples():
        try:
            results.append(decoder.decode(data))
        except BlocksnapError:
            continue
    assert any(result is not None for result in results)


@pytest.mark.parametrize("name", DECODERS)
def test_any_bytes_give_a_value_or_a_documented_error(name):
    fuzz(DECODERS[name], EXAMPLES)


@pytest.mark.long
@pytest.mark.parametrize("name", DECODERS)
def test_many_more_of_any_bytes(name):
    fuzz(DECODERS[name], EXAMPLES_LONG)
