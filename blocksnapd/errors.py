"""Every error blocksnap raises on purpose, in one tree.

    BlocksnapError                 something happened that an operator can meet
    ├─ ConfigError                 the configuration is wrong: the operator edits the file
    ├─ UsageError                  the command was wrong: the operator asks again
    ├─ NotFoundError               no such volume, point, run: the operator asks again
    ├─ RefusedError                a guard said no: the operator decides
    ├─ NotAllowedError             the caller lacks the rights
    │  └─ PairingError             a pairing code was wrong, used up or too old
    ├─ BusyError                   something else is at work: wait and retry
    ├─ CancelledRunError           the operator cancelled the run
    │  └─ SupersededError          its snapshot went for another target: it goes on by itself
    ├─ HookError                   a hook failed that the operator wants no point without
    ├─ HookSkipError               a hook asked to skip this run
    ├─ DrillFailedError            a drill found something: the operator looks at the point
    ├─ UnreachableError            the daemon does not answer
    ├─ FormatError                 bytes from outside are not what they must be
    │  ├─ CowFormatError           a COW device's header or exception table
    │  │  ├─ CowTransientError     no persistent header: a transient snapshot, or not a COW device
    │  │  └─ CowInvalidError       the snapshot overflowed or lost its COW device: tracking is lost
    │  ├─ CertificateError         a key, certificate or request for one
    │  ├─ StateError               our own state files: start anew from what the repository holds
    │  ├─ RepositoryFormatError    an object of the repository
    │  └─ ChecksumError            content is not what its checksum says: data is damaged
    ├─ HostError                   device-mapper, LVM or the volume itself
    │  ├─ DeviceMapperError        an ioctl or its absence
    │  ├─ LvmError                 an lvm2 command failed
    │  ├─ VolumeError              the volume is missing, changed, not what the driver needs
    │  ├─ SpaceError               the VG or the COW disk has no room
    │  │  └─ CowReserveError       the COW disk is below its reserve: giving tracking up frees room
    │  └─ TrackingLostError        the snapshot became invalid: one full compare follows
    └─ StoreError                  the repository's place
       ├─ StoreMissingError        nothing there
       ├─ StoreFullError           no room: retry once there is
       │  └─ QuotaError            a receiver gives this host no more room: its operator decides
       ├─ StoreRefusedError        a receiver does not let this certificate do that
       ├─ ClockOffsetError         the clocks of host and receiver differ too much
       ├─ ObjectExistsError        a create-only name is taken
       └─ KeyMissingError          the key for this is not at hand

Each error carries what happened (the message), what it means for the data
(``effect``) and what to do (``hint``). ``code`` is stable; ``exit_code`` is
what blocksnapctl ends with; ``retryable`` says whether the same call may
succeed later without anybody acting, ``transient`` whether it may within
seconds: a network stumbles, a server is busy. A StoreError is transient and its
subclasses, which say what is the matter, are not; whoever talks to a place
raises the plain one when it broke off, did not answer or said "later". Pure.
"""

from __future__ import annotations

from typing import ClassVar


class BlocksnapError(Exception):
    """The root of the tree. Args: message, then effect and hint as sentences."""

    code: ClassVar[str] = "E-FAILED"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, effect: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.effect = effect
        self.hint = hint

    def sentences(self) -> str:
        """Return message, effect and hint as one text for a log line or a terminal."""
        return " ".join(
            s if s.endswith((".", "!", "?")) else f"{s}."
            for s in (self.message, self.effect, self.hint)
            if s
        )


class ConfigError(BlocksnapError):
    """The configuration is wrong; the operator edits the file."""

    code = "E-CONFIG"
    exit_code = 78


class UsageError(BlocksnapError):
    """The command was wrong; the operator asks again."""

    code = "E-USAGE"
    exit_code = 2


class NotFoundError(BlocksnapError):
    """No such volume, point or run; the operator asks again."""

    code = "E-NOT-FOUND"
    exit_code = 11


class RefusedError(BlocksnapError):
    """A guard refused to go on; the operator decides."""

    code = "E-REFUSED"
    exit_code = 12


class NotAllowedError(BlocksnapError):
    """The caller lacks the rights."""

    code = "E-NOT-ALLOWED"
    exit_code = 77


class PairingError(NotAllowedError):
    """A pairing code was wrong, used up or too old; the operator shows a new one."""

    code = "E-PAIRING"


class BusyError(BlocksnapError):
    """Something else is at work; wait and retry."""

    code = "E-BUSY"
    exit_code = 75
    retryable = True


class CancelledRunError(BlocksnapError):
    """The operator, or the end of the daemon, cancelled the run."""

    code = "E-CANCELLED"
    exit_code = 130


class SupersededError(CancelledRunError):
    """A target's snapshot was given up for another target; the run is made again by itself."""

    code = "E-SUPERSEDED"
    retryable = True


class HookError(BlocksnapError):
    """A hook failed, and the operator wants no point without it."""

    code = "E-HOOK"
    retryable = True


class HookSkipError(BlocksnapError):
    """A hook asked to skip this run: no failure, no alarm."""

    code = "E-HOOK-SKIP"
    exit_code = 75
    retryable = True


class DrillFailedError(BlocksnapError):
    """A drill found that a point cannot be used as it should; what, is in its evidence."""

    code = "E-DRILL"


class UnreachableError(BlocksnapError):
    """The daemon does not answer on its socket."""

    code = "E-UNREACHABLE"
    exit_code = 10
    retryable = True


class FormatError(BlocksnapError):
    """Bytes from outside are not what they must be."""

    code = "E-FORMAT"
    exit_code = 14


class CowFormatError(FormatError):
    """A COW device's header or exception table is not one the kernel would write."""

    code = "E-COW-FORMAT"


class CowTransientError(CowFormatError):
    """No persistent header: a transient snapshot, or not a COW device at all."""

    code = "E-COW-TRANSIENT"


class CowInvalidError(CowFormatError):
    """The kernel gave the snapshot up (overflow, COW I/O error): nothing in it may be used."""

    code = "E-COW-INVALID"


class CertificateError(FormatError):
    """A key, a certificate or a request for one is not what it must be; pair again."""

    code = "E-CERTIFICATE"


class StateError(FormatError):
    """One of our own state files is damaged; start anew from what the repository holds."""

    code = "E-STATE"


class RepositoryFormatError(FormatError):
    """An object of the repository is not one of this format."""

    code = "E-REPO-FORMAT"


class ChecksumError(FormatError):
    """Content is not what its checksum says; the data it held is damaged."""

    code = "E-CHECKSUM"


class HostError(BlocksnapError):
    """Device-mapper, LVM or the volume itself."""

    code = "E-HOST"


class DeviceMapperError(HostError):
    """A device-mapper ioctl failed, or this kernel has no device-mapper."""

    code = "E-DM"


class LvmError(HostError):
    """An lvm2 command failed."""

    code = "E-LVM"
    retryable = True


class VolumeError(HostError):
    """The volume is missing, has changed its nature, or is not what its driver needs."""

    code = "E-VOLUME"


class SpaceError(HostError):
    """The volume group or the COW disk has no room."""

    code = "E-COW-SPACE"
    retryable = True


class CowReserveError(SpaceError):
    """The disk under the COW space has less free than its reserve; giving tracking up frees it.

    ``shortage`` is how many bytes are missing.
    """

    code = "E-COW-RESERVE"

    def __init__(self, message: str, *, shortage: int, effect: str = "", hint: str = "") -> None:
        super().__init__(message, effect=effect, hint=hint)
        self.shortage = shortage


class TrackingLostError(HostError):
    """A snapshot became invalid in the middle of a cycle; one full compare follows."""

    code = "E-TRACKING-LOST"
    retryable = True


class StoreError(BlocksnapError):
    """The repository's place failed."""

    code = "E-STORE"
    retryable = True
    transient = True


class StoreMissingError(StoreError):
    """There is no repository at the place, or it is another one."""

    code = "E-REPO-MISSING"
    transient = False


class StoreFullError(StoreError):
    """The repository's place has no room; retry once there is."""

    code = "E-REPO-FULL"
    transient = False


class QuotaError(StoreFullError):
    """A receiver gives this host no more room; its operator raises the quota or prunes."""

    code = "E-QUOTA"


class StoreRefusedError(StoreError):
    """A receiver does not let this certificate do that; its operator decides."""

    code = "E-ROLE"
    exit_code = 77
    retryable = False
    transient = False


class ClockOffsetError(StoreError):
    """The clocks of host and receiver differ too much for the times of points to be trusted."""

    code = "E-CLOCK"
    transient = False


class ObjectExistsError(StoreError):
    """A create-only name is taken; nothing was changed."""

    code = "E-EXISTS"
    retryable = False
    transient = False


class CondemnedError(StoreError):
    """A collection may have deleted what a writer relies on; the next cycle ships it anew."""

    code = "E-CONDEMNED"
    transient = False


class KeyMissingError(StoreError):
    """The key for this operation is not at hand."""

    code = "E-KEY"
    exit_code = 77
    retryable = False
    transient = False
