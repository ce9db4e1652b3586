"""The writer's lock where the place itself has none: flock on a file of this host. Edge.

Object storage knows no lock that the death of its holder releases, and a lease goes by clocks. So
two writers of one volume on one host exclude each other here; those on two hosts do not. What
keeps them apart is the chain: a point's place in it is looked at before the first byte and again
right before the commit, and two newest points are found by the next who asks, who writes nothing.
The lock says of itself that it is not everywhere, so that no collection takes it for the proof that
nobody is writing; it waits for as long as a session may last instead.
"""

from __future__ import annotations

import hashlib
import os
import stat

from blocksnapd.errors import StoreError
from blocksnapd.runtime.owned import open_locked
from blocksnapd.store.files import FileLock, another_writer

_SYSTEM_DIR = "/run/blocksnap"


def lock_on_host(url: str, prefix: str) -> FileLock:
    """Become the one writer of ``prefix`` in the place ``url`` on this host, for this user.

    Raises:
        BusyError: there is one. StoreError: the lock's file cannot be made.
    """
    name = hashlib.blake2b(f"{url}\n{prefix}".encode(), digest_size=16).hexdigest()
    directory = os.path.join(_runtime_dir(), "writers")
    try:
        _make_own(os.path.dirname(directory))
        _make_own(directory)
        fd = open_locked(os.path.join(directory, name), flags=os.O_NOFOLLOW)
    except OSError as error:
        raise StoreError(
            f"the lock of the writer could not be made in {directory}: {error.strerror or error}",
            effect="Nothing was written; the snapshot goes on tracking.",
            hint="Make that directory one that this user alone can write to.",
        ) from error
    if fd is None:
        raise another_writer(f"in {prefix} of {url}")
    return FileLock(fd, is_everywhere=False)


def _runtime_dir() -> str:
    if os.geteuid() == 0:
        return _SYSTEM_DIR
    own = os.environ.get("XDG_RUNTIME_DIR")
    return f"{own}/blocksnap" if own else f"/tmp/blocksnap-{os.geteuid()}"  # noqa: S108 - checked


def _make_own(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(f"{path} is not a directory of this user") from None
