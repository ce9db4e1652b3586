"""Uploads in parts leave nothing behind, whole or given up."""

from __future__ import annotations

import random

import botocore.exceptions
import pytest

from blocksnapd.store.s3_parts import PART_SIZE, put_in_parts

DATA = memoryview(random.Random(2).randbytes(2 * PART_SIZE + 7))


def pending(store) -> list[str]:
    """Return the keys of uploads that were begun and not ended."""
    found = store.clients.admin.list_multipart_uploads(
        Bucket=store.place.bucket, Prefix=store.place.prefix
    )
    return [each["Key"] for each in found.get("Uploads", [])]


def test_parts_become_one_object(seaweed):
    store = seaweed.store()
    put_in_parts(store.clients.admin, store.place.bucket, store.key("x"), DATA)
    assert store.get("x", size_max=len(DATA)) == DATA
    assert pending(store) == []


def test_a_taken_name_is_refused_and_its_parts_are_removed(seaweed):
    store = seaweed.store()
    store.put("x", [b"first"])
    with pytest.raises(botocore.exceptions.ClientError) as found:
        put_in_parts(store.clients.admin, store.place.bucket, store.key("x"), DATA)
    assert found.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert store.get("x", size_max=99) == b"first"
    assert pending(store) == []
