"""What each state, error code and finding of ``doctor`` means, and what to do: one table. Pure.

``blocksnapctl explain`` and the manual page blocksnap-explain(7) are both made from it.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Explanation(NamedTuple):
    """What something means: ``cause`` why it came, ``effect`` for the data, ``do`` what helps."""

    cause: str
    effect: str
    do: str


STATES: Final = {
    "protected": Explanation(
        "The newest point is younger than the RPO, and the last run ended well.",
        "A disaster now would cost what was written since the newest point (EXPOSURE).",
        "Nothing.",
    ),
    "late": Explanation(
        "The newest point is older than the RPO: runs fail, take too long, are paused, or the "
        "daemon was not running.",
        "A disaster now would cost more than was agreed on. Points that exist are untouched.",
        "Read the cause below the volume in status, and the last run: blocksnapctl runs VOLUME.",
    ),
    "failing": Explanation(
        "The last run failed, or a proof found something wrong; the RPO is not broken yet.",
        "Points that exist are untouched. If nothing changes the volume will be late.",
        "Read the cause below the volume in status; retries go on by themselves.",
    ),
    "seeding": Explanation(
        "The first full copy is under way.",
        "There is no point yet: a disaster now would cost the whole volume.",
        "Wait; status shows rate and ETA. A restart of the daemon goes on with it.",
    ),
    "unprotected": Explanation(
        "There is no point of the volume and no first copy that goes well.",
        "A disaster now would cost the whole volume.",
        "Read the cause below the volume in status; then: blocksnapctl run VOLUME --wait.",
    ),
    "paused": Explanation(
        "Somebody paused the volume, or a restore in place holds it.",
        "No points are made by themselves; exposure grows. Tracking goes on.",
        "blocksnapctl resume VOLUME, or wait until the pause ends.",
    ),
}  # fmt: skip

CODES: Final = {
    "E-FAILED": Explanation(
        "Something failed that has no code of its own.",
        "The run or command it happened in did not do its work; nothing older was touched.",
        "Read the message and the daemon's log; a mistake of blocksnap should be reported.",
    ),
    "E-CONFIG": Explanation(
        "A file of the configuration cannot be read, or something in it is wrong.",
        "Nothing was started or changed; a daemon that runs goes on with what it had.",
        "Edit the line that is named, then: blocksnapctl config check.",
    ),
    "E-USAGE": Explanation(
        "The command or request was wrong.", "Nothing was done.",
        "Ask again; blocksnapctl VERB --help tells how.",
    ),
    "E-NOT-FOUND": Explanation(
        "There is no such volume, point, run or plan.", "Nothing was done.",
        "List what there is: blocksnapctl status, points or runs.",
    ),
    "E-REFUSED": Explanation(
        "A guard said no, because what was asked could lose data.", "Nothing was done.",
        "Read what it says; it names the way to go on if you decide so.",
    ),
    "E-NOT-ALLOWED": Explanation(
        "The caller is neither root nor in the group that this takes.", "Nothing was done.",
        "Use sudo, or join the group named by [control] read_group or admin_group.",
    ),
    "E-BUSY": Explanation(
        "Something else is at work on the same thing, or too much is.",
        "Nothing was done; what is under way goes on.",
        "Wait and ask again; blocksnapctl runs shows what is under way.",
    ),
    "E-CANCELLED": Explanation(
        "Somebody cancelled the run, or the daemon ended.",
        "No point came of it; the changes are still tracked and go into the next one.",
        "Nothing, or: blocksnapctl run VOLUME.",
    ),
    "E-SUPERSEDED": Explanation(
        "The volume has several targets, and a slow one's snapshot went, so that the others need "
        "not wait for it.",
        "No point came of that run. What was sent is not sent again.",
        "Nothing: it goes on from the newest snapshot by itself.",
    ),
    "E-HOOK": Explanation(
        "A hook failed, and the configuration wants no point without it (on_error = 'fail-run').",
        "No point was made. Changes go on being tracked from the last one; the hooks marked "
        "always ran.",
        "See what it said: blocksnapctl runs. With on_error = 'continue' a point is made all the "
        "same.",
    ),
    "E-HOOK-SKIP": Explanation(
        "A hook asked to skip a run: by status 75, or by failing with on_error = 'skip-run'.",
        "No point was made this time; the next run comes in its time. Nothing is wrong.",
        "If it skips too often, exposure grows: blocksnapctl status shows it.",
    ),
    "E-DRILL": Explanation(
        "A drill restored a point, and a check of it failed.",
        "That point may not be usable as it is. Others were not looked at.",
        "Read the evidence: blocksnapctl report VOLUME; drill an older point; look at the volume.",
    ),
    "E-UNREACHABLE": Explanation(
        "No daemon answers on the socket.",
        "Whether the volumes are protected is not known; likely no points are made.",
        "systemctl status blocksnapd; without a daemon: blocksnapctl --repo URL points.",
    ),
    "E-FORMAT": Explanation(
        "Bytes that were read are not what they must be.",
        "Nothing of them was used; what they describe may be damaged.",
        "Check the disk they came from; blocksnapctl verify tells what else is damaged.",
    ),
    "E-COW-FORMAT": Explanation(
        "The table of a snapshot is not one the kernel would write.",
        "The tracking since the newest point is not trusted; one full compare replaces it.",
        "Nothing at first. If it comes again, check the disk of the COW space.",
    ),
    "E-COW-TRANSIENT": Explanation(
        "A device that should hold a snapshot's table has no persistent header.",
        "Nothing was read from it; one full compare replaces the tracking.",
        "Look who else makes snapshots of the volume: lvs -a.",
    ),
    "E-COW-INVALID": Explanation(
        "The kernel gave the snapshot up: its COW space was full or failed.",
        "Tracking since the newest point is lost; the volume and its points are untouched. The "
        "next run reads the whole volume once and ships only what differs.",
        "Give the COW space more room (it is best as large as the volume), or shorten 'every'.",
    ),
    "E-STATE": Explanation(
        "One of the daemon's own state files is damaged.",
        "Nothing is lost: it is made anew from what the repository holds.",
        "Check the disk under the state directory.",
    ),
    "E-REPO-FORMAT": Explanation(
        "An object in the repository is not one of this format: damaged, or of a newer version.",
        "Points that need it cannot be read whole; others are untouched.",
        "blocksnapctl verify names the points; keep the repository as it is until you have data.",
    ),
    "E-CHECKSUM": Explanation(
        "Content is not what its checksum says: a disk, memory or cable changed it.",
        "The blocks that are named are damaged. Where the volume still has them, the next cycle "
        "ships them again.",
        "blocksnapctl verify --data 100%; look at the health of the disk and the memory.",
    ),
    "E-HOST": Explanation(
        "Something on this host failed: a file, a disk, a system call.",
        "The run did not end; the changes stay tracked.",
        "Read the message; blocksnapctl doctor looks at the host.",
    ),
    "E-DM": Explanation(
        "Device-mapper refused, or this kernel has none.",
        "No snapshot can be taken; earlier points are untouched.",
        "blocksnapctl doctor --fix; modprobe dm_snapshot.",
    ),
    "E-LVM": Explanation(
        "A command of lvm2 failed; its own words are in the message.",
        "The run did not end; it is tried again. Half-done snapshots are removed by the next try.",
        "Run the command that is named by hand; blocksnapctl doctor --fix.",
    ),
    "E-VOLUME": Explanation(
        "The volume is missing, has another size or nature than before, or cannot be read.",
        "No point is made until it is back; points that exist are untouched.",
        "lvs, or ls -l of the path; correct the configuration if it was renamed.",
    ),
    "E-COW-SPACE": Explanation(
        "The volume group or the disk of the COW space has no room.",
        "No snapshot can be taken, or tracking would be given up next.",
        "Make room on that disk, or move the COW space to another.",
    ),
    "E-COW-RESERVE": Explanation(
        "The disk of the COW space has less free than its reserve.",
        "Tracking is given up before the disk is full; a full compare follows once there is room.",
        "Make room on that disk, or lower 'reserve'.",
    ),
    "E-TRACKING-LOST": Explanation(
        "The snapshot became invalid during a cycle.",
        "Nothing of that cycle was committed; the next one reads the volume whole.",
        "Give the COW space more room; look at the kernel's log.",
    ),
    "E-STORE": Explanation(
        "The place of the repository failed or did not answer.",
        "Changes since the newest point exist only on this host; they stay tracked.",
        "Is the disk mounted, the host up? It is tried again by itself.",
    ),
    "E-REPO-MISSING": Explanation(
        "There is no repository at the place, or it is another one than before.",
        "Changes since the newest point exist only on this host; nothing is written there.",
        "Mount the disk, correct the URL, or make a new one: blocksnapctl init.",
    ),
    "E-REPO-FULL": Explanation(
        "The place of the repository has no room.",
        "Changes since the newest point exist only on this host; they stay tracked.",
        "Make room, or keep less: blocksnapctl prune VOLUME --dry-run shows what that frees.",
    ),
    "E-QUOTA": Explanation(
        "The receiver gives this host no more room than its quota.",
        "Changes since the newest point exist only on this host; they stay tracked.",
        "On the receiver, raise the host's quota or keep less of it; the next cycle tries again.",
    ),
    "E-ROLE": Explanation(
        "A receiver does not let the certificate that was shown do that.",
        "Nothing was read or written.",
        "Restore with a reader's certificate; prune and verify on the receiver.",
    ),
    "E-CLOCK": Explanation(
        "The clocks of this host and of the receiver differ by more than the receiver allows.",
        "No point is made: with a wrong time it would be kept or dropped wrongly. Changes stay "
        "tracked.",
        "Set both clocks, best by NTP; the next cycle tries again.",
    ),
    "E-EXISTS": Explanation(
        "A name that is written once is taken: another writer was there, or a crash in between.",
        "Nothing was overwritten.",
        "Nothing, if it comes once. Else see that only one daemon protects this volume.",
    ),
    "E-CONDEMNED": Explanation(
        "A collection may have deleted what the writer relied on.",
        "Nothing of that cycle was committed; the next one ships it anew.",
        "Nothing.",
    ),
    "E-KEY": Explanation(
        "The key that this takes is not at hand, is another one, or its passphrase is wrong; or "
        "the credentials for object storage are missing, or do not allow it.",
        "Nothing was read.",
        "Name it with --key FILE: the restore.key that init made, from where it is kept. For "
        "object storage see 'credentials' of the target, or AWS_ACCESS_KEY_ID in the environment.",
    ),
    "E-CERTIFICATE": Explanation(
        "A certificate or its key is missing, damaged, expired, revoked or of somebody else.",
        "No connection was made with it; changes stay tracked on this host.",
        "Look at its dates and at both hosts' clocks; pair the two hosts again.",
    ),
    "E-PAIRING": Explanation(
        "Two hosts did not come to trust each other: another code, too late, or too many tries.",
        "Nothing was changed on either of them.",
        "Begin anew with a fresh code.",
    ),
    "E-NBD-OPTION": Explanation(
        "A client of an export sent an option that is not as the NBD protocol has it.",
        "That option was refused; the export goes on.",
        "Use another client, or report it if that is nbd-client, qemu or libnbd.",
    ),
    "E-INTERNAL": Explanation(
        "A mistake in blocksnap.",
        "The request failed; the volumes go on being protected.",
        "Please report it with: blocksnapctl support.",
    ),
    "E-WAIT": Explanation(
        "The time given with --timeout was over before the run was.",
        "A run of the daemon goes on.",
        "blocksnapctl wait RUN, or show RUN; cancel RUN stops it.",
    ),
}  # fmt: skip

FINDINGS: Final = {
    "MODULE": Explanation(
        "The kernel has not loaded device-mapper's target 'snapshot'.",
        "No snapshot can be taken or activated.",
        "blocksnapctl doctor --fix, or modprobe dm_snapshot; modules-load.d does it at boot.",
    ),
    "COW-FILE": Explanation(
        "The file of a COW space is not there or its disk cannot be asked.",
        "No snapshot can be taken in it.",
        "Mount that disk; blocksnapctl cow create makes the file.",
    ),
    "NOT-ATTACHED": Explanation(
        "The file of a COW space is attached to no loop device.",
        "Its volume group misses a physical volume: after a deactivation LVM would refuse to "
        "activate the protected volume.",
        "blocksnapctl doctor --fix, or cow attach.",
    ),
    "HAZARD": Explanation(
        "The COW space lies where it could deadlock the volume or keep the host from booting.",
        "Depends on the place; the message tells.",
        "Move the COW space to another disk: blocksnapctl cow remove, then cow create.",
    ),
    "FSTAB": Explanation(
        "/etc/fstab insists on a mount whose volume group has a file as COW space.",
        "If that file's disk is missing at boot, the boot stops in the emergency shell.",
        "Add 'nofail' to that line, and enable the unit that attaches the COW space.",
    ),
    "UNFINISHED": Explanation(
        "A restore made a logical volume and was stopped before it was filled.",
        "That volume holds only a part of a point. The protected volumes are untouched.",
        "Run the same restore again, it goes on where it was; or remove the volume: lvremove.",
    ),
    "RESTORING": Explanation(
        "A restore that is running fills a logical volume that it made.",
        "Until it is done that volume holds only a part of a point.",
        "Nothing; to stop it: blocksnapctl cancel RUN.",
    ),
    "RESTORE-CUT": Explanation(
        "A restore to a device was stopped before it was done.",
        "That device holds only a part of a point.",
        "Run the same restore again, it goes on where it was; or remove the journal that is named.",
    ),
    "MERGE-CUT": Explanation(
        "A point was to be merged into its volume, and the command was stopped before that began.",
        "The volume is unchanged. What was prepared takes room from the COW space.",
        "Run the same view --merge again; or remove what was prepared: lvremove.",
    ),
    "VIEW-CUT": Explanation(
        "A snapshot was taken for a view that is not there: it was cut off, or lost by a boot.",
        "Each block of the volume that is overwritten is copied for it once.",
        "End it: blocksnapctl view --end VOLUME. It can be made anew.",
    ),
    "SUSPENDED": Explanation(
        "A device of the volume is suspended: whoever took a snapshot died half-way.",
        "Every writer to the volume hangs.",
        "blocksnapctl doctor --fix, at once.",
    ),
    "HALF": Explanation(
        "A logical volume of ours is no whole snapshot.",
        "It takes room and slows writes down.",
        "blocksnapctl doctor --fix removes it.",
    ),
    "ORPHAN": Explanation(
        "A device of ours belongs to no logical volume.",
        "It keeps others from being removed.",
        "blocksnapctl doctor --fix removes it.",
    ),
    "LOADED": Explanation(
        "A device has a table loaded that was never resumed.",
        "The next suspend and resume would swap it in.",
        "blocksnapctl doctor --fix clears it.",
    ),
    "INVALID": Explanation(
        "The kernel gave a snapshot up: its COW space was full or failed.",
        "Tracking since the newest point is lost; one full compare follows.",
        "Nothing: the next cycle removes it. Give the COW space more room.",
    ),
}  # fmt: skip


def find(word: str) -> Explanation | None:
    """Return what ``word`` means: a state, a code with or without ``E-``, or a finding."""
    name = word.upper()
    coded = CODES.get(name) or CODES.get(f"E-{name}")
    return STATES.get(word.lower()) or FINDINGS.get(name) or coded


def words() -> list[str]:
    """Return everything that ``find`` knows."""
    return [*STATES, *CODES, *FINDINGS]
