"""What is a rule and what is none; its buckets are tested with the points they keep."""

from __future__ import annotations

import pytest

from blocksnapd.keep_rules import parse_rule

MINUTE, HOUR, DAY = 60 * 10**6, 3600 * 10**6, 86400 * 10**6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a rule"),
        ("1/h", "is not a rule"),
        ("all", "is not a rule"),
        ("1/s for 2d", "is not a rule"),
        ("-1/h for 2d", "is not a rule"),
        ("1/h for", "is not a rule"),
        ("1/h for soon", "does not say for how long"),
        ("1/h for 2 d x", "does not say for how long"),
        ("1/h for 0d", "between nothing"),
        ("1/h for 9999999w", "between nothing"),
        ("7/d for 2w", "write 6/d"),
        ("0/d for 2w", "write 1/d"),
        ("99999/w for 2w", "write 86400/w"),
        ("2/mo for 1y", "not divided"),
        ("1/w for 3d", "less than one of its steps"),
        ("1/y for 6mo", "less than one of its steps"),
    ],
)
def test_what_is_no_rule_is_told(text, said):
    with pytest.raises(ValueError, match=said):
        parse_rule(text)


def test_rules_are_read_with_or_without_spaces():
    assert parse_rule("  4 / d   for 2w ").span_us == 14 * DAY
    assert parse_rule("  4 / d   for 2w ").width_us == 6 * HOUR
    assert parse_rule("4 /d for 2w").text == "4 /d for 2w"
    assert parse_rule("all for 1h30m").span_us == 90 * MINUTE
    assert parse_rule("1/mo for ever").span_us is None
    assert parse_rule("1/mo for 2 mo").span_us == 62 * DAY
