from __future__ import annotations

import pytest

from blocksnapd.service.status import exposure_s, state_word


@pytest.mark.parametrize(
    ("exposure", "is_running", "is_troubled", "word"),
    [
        (None, False, False, "unprotected"),
        (None, True, False, "seeding"),
        (None, True, True, "unprotected"),
        (30.0, False, False, "protected"),
        (30.0, True, False, "protected"),
        (30.0, False, True, "failing"),
        (601.0, False, False, "late"),
        (601.0, True, True, "late"),
    ],
)
def test_state_in_one_word(
    exposure: float | None, is_running: bool, is_troubled: bool, word: str
) -> None:
    assert state_word(exposure, 600.0, is_running=is_running, is_troubled=is_troubled) == word


def test_exposure_is_the_age_of_the_newest_points_instant() -> None:
    assert exposure_s({"time": "2026-11-22T14:05:00.000Z"}, 1795356360.0) == 60.0
    assert exposure_s(None, 0.0) is None


def test_a_clock_set_back_is_no_negative_exposure() -> None:
    assert exposure_s({"time": "2026-11-22T14:05:00.000Z"}, 0.0) == 0.0
