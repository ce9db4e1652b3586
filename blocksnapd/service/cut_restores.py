"""Restores to devices that were cut off, as their journals tell. Edge.

Who restores holds the device: one that is held is being restored to, or mounted and in use again.
"""

from __future__ import annotations

import errno
import os
import shlex

from blocksnapd.cycle.volume_repair import Finding
from blocksnapd.restore.journal import JOURNALS, left_in


def cut_restores(directory: str = JOURNALS) -> list[Finding]:
    """Tell which devices hold a part of a point, by the journals in ``directory``. Blocking."""
    return [
        Finding(
            "RESTORE-CUT", f"The restore of {about.get('point')} to {about['to']} was cut off.",
            "That device holds only a part of the point.",
            f"Begin it again, it goes on; or, if nobody will, rm {shlex.quote(path)}.",
            fixable=False,
        )
        for path, about in left_in(directory)
        if isinstance(about.get("to"), str) and not _is_held(about["to"])
    ]  # fmt: skip


def _is_held(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    except ValueError:  # no path at all
        return False
    return False
