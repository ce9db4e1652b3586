from __future__ import annotations

import pytest

from blocksnapd.service.status import exposure_s, state_word


@pytest.mark.parametrize(
    ("exposure", "is_running", "failures", "word"),
    [
        (None, False, 0, "unprotected"),
        (None, True, 0, "seeding"),
        (None, True, 2, "unprotected"),
        (30.0, False, 0, "protected"),
        (30.0, True, 0, "protected"),
        (30.0, False, 1, "failing"),
        (601.0, False, 0, "late"),
        (601.0, True, 3, "late"),
    ],
)
def test_state_in_one_word(
    exposure: float | None, is_running: bool, failures: int, word: str
) -> None:
    assert state_word(exposure, 600.0, is_running=is_running, failures=failures) == word


def test_exposure_is_the_age_of_the_newest_points_instant() -> None:
    assert exposure_s({"time": "2026-11-22T14:05:00.000Z"}, 1795356360.0) == 60.0
    assert exposure_s(None, 0.0) is None


def test_a_clock_set_back_is_no_negative_exposure() -> None:
    assert exposure_s({"time": "2026-11-22T14:05:00.000Z"}, 0.0) == 0.0
