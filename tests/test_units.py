from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.units import (
    Amount,
    format_duration,
    format_size,
    parse_amount,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("64 KiB", 65536), ("10G", 10 << 30), ("1.5 MiB", 1572864), ("2 MB", 2000000)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "-1", "4 KiBs", "1.5", "1 2", "0x10", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_size(text)


def test_rates() -> None:
    assert parse_rate("40 MiB/s") == 40 << 20
    assert parse_rate("512 / s") == 512
    for text in ("40 MiB", "40 MiB/m", "/s", "40/s/s"):
        with pytest.raises(ValueError, match="is not a"):
            parse_rate(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("250ms", 0.25), ("10s", 10), ("1w", 604800), ("1.5 h", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 minutes", "5m later", "-5m", "5mm"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(st.text(max_size=12))
def test_any_text_gives_a_value_or_the_documented_error(text: str) -> None:
    for parse in (parse_size, parse_duration, parse_rate):
        try:
            assert parse(text) >= 0
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (512, "512 B"), (1024, "1.0 KiB"), (430 << 20, "430 MiB"), (1 << 31, "2.0 GiB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.042, "42 ms"), (6.1, "6.1s"), (72, "1m12s"), (15000, "4h10m"), (1051200, "12d 4h")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "share"), [("5%", 0.05), (" 100% ", 1.0), ("0 %", 0.0), ("33.3%", 0.333)]
)
def test_shares(text, share):
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "5", "101%", "-1%", "5%/week", "ten%", "1e1%"])
def test_what_is_no_share(text):
    with pytest.raises(ValueError, match="share"):
        parse_share(text)


@pytest.mark.parametrize(
    ("text", "amount", "of_1000"),
    [("10%", Amount(share=0.1), 100), ("64 KiB", Amount(size=65536), 65536), ("0%", Amount(), 0)],
)
def test_amounts(text: str, amount: Amount, of_1000: int) -> None:
    found = parse_amount(text)
    assert found.of(1000) == of_1000 == amount.of(1000)
    assert parse_amount(str(found)) == found


@pytest.mark.parametrize("text", ["", "%", "many", "101%", "-1%"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_amount(text)
