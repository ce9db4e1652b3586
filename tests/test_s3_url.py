"""What a URL of object storage says, and that no other text passes for one."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.s3_url import S3Place, below_s3_url, is_s3, parse_s3_url


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://vault", S3Place("vault", "", "", "us-east-1", is_virtual=True)),
        ("s3://vault/", S3Place("vault", "", "", "us-east-1", is_virtual=True)),
        (
            "s3://my.vault/hosts/a%2Bb/?region=eu-central-1&lock=30d",
            S3Place("my.vault", "hosts/a+b/", "", "eu-central-1", True, 30 * 86_400.0),
        ),
        (
            "s3://vault/x?endpoint=https://[::1]:9000/",
            S3Place("vault", "x/", "https://[::1]:9000", "us-east-1", is_virtual=False),
        ),
        (
            "s3://vault/x?endpoint=http%3A%2F%2Fhost&style=virtual",
            S3Place("vault", "x/", "http://host", "us-east-1", is_virtual=True),
        ),
    ],
)
def test_a_url_says_where_the_objects_are(url: str, place: S3Place) -> None:
    assert is_s3(url)
    assert parse_s3_url(url) == place


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/srv/vault", "not a place in object storage"),
        ("https://vault/x", "not a place in object storage"),
        ("s3://vault/x#top", "not a place in object storage"),
        ("s3:///x", "not the name of a bucket"),
        ("s3://Vault/x", "not the name of a bucket"),
        ("s3://vault:80/x", "not the name of a bucket"),
        ("s3://key:secret@vault/x", "holds no credentials"),
        ("s3://vault/a//b", "part of a prefix"),
        ("s3://vault/../b", "part of a prefix"),
        ("s3://vault/.hidden", "part of a prefix"),
        ("s3://vault/x?secret_access_key=abc", "'secret_access_key' is not an option"),
        ("s3://vault/x?region=a&region=b", "twice"),
        ("s3://vault/x?region=", "not a region"),
        ("s3://vault/x?style=dns", "not a style"),
        ("s3://vault/x?endpoint=host:9000", "not an endpoint"),
        ("s3://vault/x?endpoint=https://u:p@host", "not an endpoint"),
        ("s3://vault/x?endpoint=https://host/bucket", "more than an endpoint"),
        ("s3://vault/x?endpoint=https://host:99999", "ort"),
        ("s3://vault/x?lock=1h", "a day at least"),
        ("s3://vault/x?lock=soon", "not a duration"),
        ("s3://vault/x?lock", "lock"),
    ],
)
def test_what_is_not_a_place_is_refused(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_s3_url(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://vault", "s3://vault/db01"),
        ("s3://vault/", "s3://vault/db01"),
        ("s3://vault/a/b/?region=eu-1&lock=30d", "s3://vault/a/b/db01?region=eu-1&lock=30d"),
        ("s3://vault/a?endpoint=http://[::1]:9", "s3://vault/a/db01?endpoint=http://[::1]:9"),
    ],
)
def test_a_folder_below_keeps_all_options(url: str, expected: str) -> None:
    assert below_s3_url(url, "db01") == expected
    before, after = parse_s3_url(url), parse_s3_url(expected)
    assert after == dataclasses.replace(before, prefix=f"{before.prefix}db01/")


def test_a_secret_typed_as_an_option_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="option") as found:
        parse_s3_url("s3://vault/x?secret_access_key=hunter2")
    assert "hunter2" not in str(found.value)


@given(st.text() | st.builds("s3://{}/{}?{}".format, st.text(), st.text(), st.text()))
def test_any_text_gives_a_place_or_a_value_error(text: str) -> None:
    try:
        place = parse_s3_url(text)
    except ValueError:
        return
    assert place.bucket
    assert not place.prefix or place.prefix.endswith("/")
