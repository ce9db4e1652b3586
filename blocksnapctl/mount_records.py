"""What ``mount`` has set up, remembered so that ``unmount`` can take it down again. Edge.

    /run/blocksnap-mounts/NAME      lines of JSON; each adds to what is known
    /run/blocksnap-mounts/.lock     held while something is set up or taken down

A line is written *before* what it tells of is done, so that whatever a killed command left can be
found. The directory is gone after a reboot, as are the mounts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from typing import TYPE_CHECKING, Any, Final

from blocksnapd.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACE: Final = "/run/blocksnap-mounts"
SIZE_MAX: Final = 1 << 20


class Record:
    """One mount. Its facts: see ``mounting``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.facts: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            for line in file.read(SIZE_MAX).splitlines():
                self.facts |= _fact(line)

    def add(self, **facts: Any) -> None:
        """Remember more; on return it outlives this process.

        Raises:
            HostError: it cannot be written.
        """
        self.facts |= facts
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                os.write(fd, b"\n" + json.dumps(facts).encode() + b"\n")
            finally:
                os.close(fd)
        except OSError as error:
            raise HostError(
                f"{self._path}: {error.strerror}", effect="What is mounted can't be remembered."
            ) from error

    def forget(self) -> None:
        """Forget it; there is nothing left to take down."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def _fact(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line or b"{}")
    except ValueError:
        return {}  # the process died while it wrote this
    return found if isinstance(found, dict) else {}


def new_record() -> Record:
    """Return the record of a mount that is about to be."""
    return Record(os.path.join(PLACE, secrets.token_hex(6)))


def records() -> list[Record]:
    """Return what is remembered, in no order."""
    try:
        names = sorted(os.listdir(PLACE))
    except FileNotFoundError:
        return []
    return [Record(os.path.join(PLACE, name)) for name in names if not name.startswith(".")]


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Let no other command set up or take down a mount meanwhile.

    Raises:
        HostError: there is no place for records.
    """
    try:
        os.makedirs(PLACE, mode=0o700, exist_ok=True)
        fd = os.open(os.path.join(PLACE, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(
            f"{PLACE}: {error.strerror}", effect="Nothing was mounted or unmounted."
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
