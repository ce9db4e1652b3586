"""Who may do what on the control socket: the kernel's word about the peer → yes or no. Pure.

Root and the daemon's own user may everything, ``admin_group`` too; ``read_group`` may look.
"""

from __future__ import annotations

from dataclasses import dataclass

from blocksnapd.errors import NotAllowedError


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as it was when it connected."""

    pid: int
    uid: int
    gids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Access:
    """The rules. A group that is None gives nobody anything."""

    own_uid: int
    read_gid: int | None = None
    admin_gid: int | None = None

    def may_change(self, peer: Peer) -> bool:
        """Say whether the peer may start and cancel."""
        return peer.uid in {0, self.own_uid} or self.admin_gid in peer.gids

    def may_look(self, peer: Peer) -> bool:
        """Say whether the peer may ask."""
        return self.may_change(peer) or self.read_gid in peer.gids

    def check(self, peer: Peer, *, changes: bool) -> None:
        """Let the peer pass.

        Raises:
            NotAllowedError: it may not.
        """
        if self.may_change(peer) if changes else self.may_look(peer):
            return
        verb, group = ("change", "admin_group") if changes else ("look at", "read_group")
        raise NotAllowedError(
            f"user id {peer.uid} may not {verb} anything here",
            effect="Nothing was done.",
            hint=f"Use sudo, or join the group that [control] {group} names.",
        )
