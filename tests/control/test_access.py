"""Who may do what."""

from __future__ import annotations

import pytest

from blocksnapd.control.access import Access, Peer
from blocksnapd.errors import NotAllowedError

GROUPS = Access(own_uid=300, read_gid=40, admin_gid=50)
NO_GROUPS = Access(own_uid=300)


@pytest.mark.parametrize(
    ("access", "uid", "gids", "looks", "changes"),
    [
        (GROUPS, 0, {0}, True, True),
        (GROUPS, 300, {300}, True, True),
        (GROUPS, 1000, {1000, 50}, True, True),
        (GROUPS, 1000, {1000, 40}, True, False),
        (GROUPS, 1000, {1000}, False, False),
        (GROUPS, 1000, set(), False, False),
        (NO_GROUPS, 0, {0}, True, True),
        (NO_GROUPS, 300, {1}, True, True),
        (NO_GROUPS, 1000, {40, 50, 0}, False, False),
    ],
)
def test_rules(access: Access, uid: int, gids: set[int], looks: bool, changes: bool) -> None:
    peer = Peer(1, uid, frozenset(gids))
    assert (access.may_look(peer), access.may_change(peer)) == (looks, changes)
    for allowed, verb in ((looks, False), (changes, True)):
        if allowed:
            access.check(peer, changes=verb)
        else:
            with pytest.raises(NotAllowedError, match=f"user id {uid} may not"):
                access.check(peer, changes=verb)
