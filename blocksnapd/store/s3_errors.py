"""What object storage answered, as one of our errors. Pure.

The two libraries tell it differently: botocore by status and code, obstore by its class and a text
that holds the answer as it came. ``read_answer`` makes one thing of both; ``told`` an error of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from blocksnapd.errors import KeyMissingError, StoreError, StoreFullError, StoreMissingError

NOTHING_DONE: Final = (
    "Nothing was committed by this call; earlier points are untouched; the snapshot goes on "
    "tracking."
)
_TEXT_MAX: Final = 300
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,200})</Message>")
_FULL = {
    "QuotaExceeded", "QuotaExceededException", "XMinioStorageFull", "InsufficientStorage",
    "ServiceQuotaExceededException", "TooManyBytes",
}  # fmt: skip
_TAKEN_STATUS = (409, 412)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
# An upload in parts that the server forgot, a line that was cut or flipped a bit: begin anew.
_BEGIN_ANEW = {"NoSuchUpload", "RequestTimeout", "IncompleteBody", "BadDigest"}
_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. ``status`` 0: no answer came, whatever became of the request."""

    status: int
    code: str
    text: str

    @property
    def is_taken(self) -> bool:
        """Whether the condition failed: there is an object, or one was just being made."""
        return self.status in _TAKEN_STATUS

    @property
    def is_missing(self) -> bool:
        """Whether there is no such object; the bucket may be gone, too."""
        return self.status == 404 and self.code not in _BEGIN_ANEW

    @property
    def no_bucket(self) -> bool:
        """Whether the bucket itself is gone."""
        return self.code == "NoSuchBucket"

    @property
    def is_beyond(self) -> bool:
        """Whether the object ends before what was asked for."""
        return self.status == 416

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed a little later, and what it did is not known."""
        return self.status == 0 or self.status in _PASSING or self.code in _BEGIN_ANEW


def read_answer(error: BaseException) -> Answer:
    """Return what an error of obstore or botocore says was answered."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        said = response.get("Error", {})
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return Answer(int(status or 0), str(said.get("Code", "")), str(said.get("Message", "")))
    text = str(error)
    status_found, code, message = _STATUS.search(text), _CODE.search(text), _MESSAGE.search(text)
    status = int(status_found[1]) if status_found else _by_class(error)
    return Answer(status, code[1] if code else "", message[1] if message else text[:_TEXT_MAX])


def _by_class(error: BaseException) -> int:
    name = type(error).__name__
    by_name = {
        "AlreadyExistsError": 412, "PreconditionError": 412, "FileNotFoundError": 404,
        "NotFoundError": 404, "PermissionDeniedError": 403, "UnauthenticatedError": 401,
    }  # fmt: skip
    return by_name.get(name, 0)


def told(answer: Answer, verb: str, name: str, url: str) -> StoreError:
    """Return the error that tells ``answer`` to a request to ``verb`` the object ``name``."""
    said = " ".join(f"{answer.code} {answer.text}".split())
    cause = f"could not {verb} {name} in {url}: {said or f'status {answer.status}'}"
    if answer.no_bucket:
        return StoreMissingError(
            f"there is no bucket for {url}",
            effect="Nothing was read or written; the snapshot goes on tracking.",
            hint="Correct the URL, or make the bucket; then blocksnapd init.",
        )
    if answer.is_missing:
        return StoreMissingError(
            f"there is no {name} in {url}",
            effect="What it held cannot be read.",
            hint="Run verify: it tells which points need it.",
        )
    if answer.status == 507 or answer.code in _FULL:
        return StoreFullError(
            f"no room: {cause}",
            effect="Nothing was committed; earlier points are untouched; the snapshot goes on "
            "tracking.",
            hint="Raise the quota or free room there; the next cycle tries again.",
        )
    if answer.status in (401, 403) and answer.code not in _CLOCK:
        return KeyMissingError(
            f"not allowed: {cause}",
            effect=NOTHING_DONE,
            hint="Look at the credentials and at what they may do: packaging/s3 has the policies "
            "that are needed.",
        )
    return StoreError(cause, effect=NOTHING_DONE, hint=_hint(answer))


def _hint(answer: Answer) -> str:
    if answer.code in _CLOCK:
        return "The clocks of this host and of the store differ: set this host's by NTP."
    if answer.status == 0:
        return "Look at the network and at the endpoint; the next cycle tries again."
    if answer.may_pass:
        return "The store is busy or down; the next cycle tries again."
    return "Look at the store's own log for this request."
