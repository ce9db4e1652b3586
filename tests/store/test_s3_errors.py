"""What object storage answers, told as one of our errors, whichever library asked."""

from __future__ import annotations

import botocore.exceptions
import obstore.exceptions
import pytest

from blocksnapd.errors import KeyMissingError, StoreError, StoreFullError, StoreMissingError
from blocksnapd.store.s3_errors import Answer, read_answer, told

XML = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>so it is</Message></Error>"


def from_obstore(status: int, code: str) -> Exception:
    text = f"Generic S3 error: … - Server returned non-2xx status code: {status} X: "
    return obstore.exceptions.GenericError(text + XML.format(code=code))


def from_botocore(status: int, code: str) -> Exception:
    answer = {"Error": {"Code": code, "Message": "so it is"},
              "ResponseMetadata": {"HTTPStatusCode": status}}  # fmt: skip
    return botocore.exceptions.ClientError(answer, "PutObject")


@pytest.mark.parametrize("make", [from_obstore, from_botocore])
@pytest.mark.parametrize(
    ("status", "code", "kind", "hint"),
    [
        (404, "NoSuchKey", StoreMissingError, "verify"),
        (404, "NoSuchBucket", StoreMissingError, "make the bucket"),
        (507, "Whatever", StoreFullError, "quota"),
        (403, "QuotaExceeded", StoreFullError, "quota"),
        (403, "AccessDenied", KeyMissingError, "policies"),
        (403, "RequestTimeTooSkewed", StoreError, "NTP"),
        (503, "SlowDown", StoreError, "busy"),
        (400, "BadDigest", StoreError, "next cycle"),
        (404, "NoSuchUpload", StoreError, "next cycle"),
        (400, "InvalidArgument", StoreError, "log"),
    ],
)
def test_each_answer_has_cause_effect_and_hint(make, status, code, kind, hint):
    answer = read_answer(make(status, code))
    assert answer == Answer(status, code, "so it is")
    error = told(answer, "write", "v/a/x", "s3://vault")
    assert type(error) is kind
    assert error.effect
    assert hint in error.hint


@pytest.mark.parametrize("make", [from_obstore, from_botocore])
def test_which_answers_say_that_the_name_is_taken_and_which_may_pass(make):
    for status in (409, 412):
        assert read_answer(make(status, "X")).is_taken
    for status in (429, 500, 502, 503, 504):
        assert read_answer(make(status, "X")).may_pass
    for code in ("NoSuchUpload", "RequestTimeout", "IncompleteBody", "BadDigest"):
        assert read_answer(make(404, code)).may_pass
    for status in (400, 401, 403, 404, 416):
        answer = read_answer(make(status, "X"))
        assert not answer.is_taken
        assert not answer.may_pass


def test_no_answer_at_all_may_pass():
    gone = botocore.exceptions.EndpointConnectionError(endpoint_url="http://x")
    assert read_answer(gone).may_pass
    assert read_answer(obstore.exceptions.GenericError("error sending request")).may_pass


def test_what_a_hostile_store_says_is_cut_short():
    answer = read_answer(obstore.exceptions.GenericError("x" * 100_000))
    assert len(told(answer, "read", "v/a", "s3://vault").message) < 1000
