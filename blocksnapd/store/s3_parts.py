"""Large objects in object storage: sent in parts, several at once, named on a condition. Edge.

The condition (``If-None-Match`` on the request that puts the parts together) refuses a name that
is taken. It is no lock: SeaweedFS 4.48 lets two who finish at the same instant both succeed. So
only names that one attempt alone can have go this way, those of packs; whatever two might name at
once is put whole, which is atomic everywhere.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from blocksnapd.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

PART_SIZE: Final = 8 * MIB
PARTS_AT_ONCE: Final = 4


def put_in_parts(admin: Any, bucket: str, key: str, data: memoryview) -> None:
    """Create an object of ``data`` unless ``key`` is taken; parts that fail are sent again.

    Raises:
        botocore's errors: status 412 where the key is taken. Nothing is under the key unless the
        last request was answered late; what was sent of it is removed as far as possible.
    """
    made = admin.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="SHA256")
    upload = {"Bucket": bucket, "Key": key, "UploadId": made["UploadId"]}
    try:
        with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="part") as pool:
            sent = list(pool.map(lambda part: _send(admin, upload, *part), _parts(data)))
        admin.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent}, IfNoneMatch="*")
    except BaseException:
        # What stays costs room until maintenance or the bucket's own rule removes it.
        with contextlib.suppress(Exception):
            admin.abort_multipart_upload(**upload)
        raise


def _parts(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    for number, start in enumerate(range(0, len(data), PART_SIZE), start=1):
        yield number, data[start : start + PART_SIZE]


def _send(admin: Any, upload: dict[str, str], number: int, part: memoryview) -> dict[str, Any]:
    body = bytes(part)
    checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
    answer = admin.upload_part(**upload, PartNumber=number, Body=body, ChecksumSHA256=checksum)
    return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}
