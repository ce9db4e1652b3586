"""What a receiver keeps of its authority, its own certificate, open codes and holders. Edge.

    authority.pem     key and certificate of the authority; whoever has it can pass for any host
    receiver.pem      key and certificate of this receiver, signed by it
    codes/HOLDER      an open code, the tries that are left, until when
    holders/HOLDER    which pairing of source:db01 is let in; none once it is revoked

All of it is mode 0600, whole or not there, and belongs to the owner of the directory, so that root
may run a command beside a receiver that is not root. A holder is let in by the pairing its
certificate names, never by the certificate alone: a new pairing ends the one before. Everything
blocks; safe for several threads.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from blocksnapd.errors import (
    BlocksnapError,
    HostError,
    NotAllowedError,
    NotFoundError,
    PairingError,
)
from blocksnapd.pki.certificates import (
    HOLDER,
    NAMES_MAX,
    Authority,
    check_holder,
    is_server_name,
    read_facts,
)
from blocksnapd.pki.codes import new_code, read_code
from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocksnapd.ports import Clock

TRIES: Final = 3
CODE_LIFETIME_S: Final = 600.0
_FILE_SIZE_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class Holder:
    """Who was paired, ``since`` when (epoch); ``pairing`` is empty once it is revoked."""

    pairing: str
    since: float


@dataclass(frozen=True, slots=True)
class OpenCode:
    """A code that waits for its source."""

    code: str
    until: float
    tries: int


class Registry:
    """The receiver's directory of keys.

    Raises:
        HostError: it cannot be read or written.
        CertificateError: the authority in it is damaged.
    """

    def __init__(self, directory: str, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._lock = threading.Lock()
        for part in ("", "codes", "holders"):
            self._make(part)
        self.authority = Authority(self._made("authority.pem", lambda: self._new_authority()))
        self._holders: dict[str, Holder] = {}
        self.refresh()

    def open_code(self, holder: str, lifetime_s: float = CODE_LIFETIME_S) -> str:
        """Return a new code with which ``holder`` may pair; one that was open for it ends.

        Raises:
            UsageError: that cannot be the name of a host.
        """
        code = new_code()
        found = OpenCode(read_code(code), self._clock.now() + lifetime_s, TRIES)
        self._write(f"codes/{check_holder(holder)}", _packed(found))
        return code

    def code_of(self, holder: str) -> str:
        """Return the open code of ``holder``; no try is used up.

        Raises:
            PairingError: none is open.
        """
        return self._open_code(holder).code

    def take_try(self, holder: str) -> None:
        """Use up one try of the open code; on the disk before this returns.

        Raises:
            PairingError: none is left.
        """
        with self._lock:
            found = self._open_code(holder)
            left = OpenCode(found.code, found.until, found.tries - 1)
            self._write(f"codes/{holder}", _packed(left))

    def admit(self, holder: str, request: bytes) -> bytes:
        """Let ``holder`` in from now on; return its certificate. Its code and earlier pairing end.

        Raises:
            CertificateError: ``request`` is none.
        """
        pairing = secrets.token_hex(8)
        now = self._clock.now()
        certificate = self.authority.sign(request, check_holder(holder), pairing, now)
        with self._lock:
            self._forget(f"codes/{holder}")
            self._set(holder, Holder(pairing, now))
        return certificate

    def renew(self, holder: str, pairing: str, request: bytes) -> bytes:
        """Return a new certificate for a holder that is let in.

        Raises:
            NotAllowedError: it is not. CertificateError: ``request`` is none.
        """
        self.check(holder, pairing)
        return self.authority.sign(request, holder, pairing, self._clock.now())

    def check(self, holder: str, pairing: str) -> None:
        """Make sure that a certificate of this holder and pairing is let in. From memory.

        Raises:
            NotAllowedError: it was revoked, or paired again since.
        """
        found = self._holders.get(holder)
        if found is None or not pairing or found.pairing != pairing:
            raise NotAllowedError(
                f"the certificate of {holder[:80]} is not let in any more",
                effect="Nothing was read or written; what was shipped is untouched.",
                hint="It was revoked, or paired again. To let it in, on the receiver: "
                f"{command_for(holder)}",
            )

    def revoke(self, holder: str) -> None:
        """Let no certificate of ``holder`` in that exists now.

        Raises:
            NotFoundError: no such holder was paired.
        """
        with self._lock:
            if holder not in self._read_holders():
                raise NotFoundError(
                    f"{holder[:80]!r} was not paired with this receiver",
                    effect="Nothing was changed.",
                    hint=f"Paired are: {', '.join(sorted(self._holders)) or 'none'}.",
                )
            self._forget(f"codes/{holder}")
            self._set(holder, Holder("", self._clock.now()))

    def holders(self) -> dict[str, Holder]:
        """Return every holder that was ever paired, as of the last ``refresh``."""
        return dict(sorted(self._holders.items()))

    def refresh(self) -> None:
        """Learn what other processes changed; call it every few seconds."""
        self._holders = self._read_holders()

    def own_certificate(self, names: Iterable[str]) -> bytes:
        """Return the receiver's key and certificate, made anew if due or short of a name.

        Names that it had stay; what cannot be the name of a server is left out.
        """
        with self._lock:
            now = self._clock.now()
            pem = self._read("receiver.pem")
            known: tuple[str, ...] = ()
            if pem is not None:
                facts = read_facts(pem)
                known = facts.names
            wanted = dict.fromkeys((*known, *filter(is_server_name, names)))
            if pem is not None and not facts.is_due(now) and len(wanted) == len(known):
                return pem
            made = self.authority.make_receiver(tuple(wanted)[-NAMES_MAX:], now)
            self._write("receiver.pem", made)
            return made

    def _new_authority(self) -> bytes:
        return Authority.make(self._clock.now()).pem

    def _open_code(self, holder: str) -> OpenCode:
        raw = self._read(f"codes/{check_holder(holder)}")
        found = None if raw is None else _code_in(raw)
        if found is None or found.tries < 1 or found.until < self._clock.now():
            raise PairingError(
                f"no code is open for {holder}",
                effect="No certificate was made; nothing secret was given away.",
                hint=f"Show a new one on the receiver: {command_for(holder)}. A code is good "
                f"for one pairing, {TRIES} tries, and {CODE_LIFETIME_S / 60:.0f} minutes.",
            )
        return found

    def _set(self, holder: str, known: Holder) -> None:
        self._write(f"holders/{holder}", _packed(known))
        self._holders = {**self._holders, holder: known}

    def _read_holders(self) -> dict[str, Holder]:
        found = {}
        for name in self._listed("holders"):
            raw = self._read(f"holders/{name}")
            if raw is not None:
                found[name] = _holder_in(raw)
        return found

    # What touches the disk. `name` is below the directory.

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _made(self, name: str, make: Any) -> bytes:
        """Return the file, or what ``make`` returns once it is kept; the first one wins."""
        found = self._read(name)
        if found is not None:
            return found
        try:
            durable.create_only(self._path(name), [make()])
            self._hand_over(name)
        except FileExistsError:
            pass  # another process was faster
        except OSError as error:
            raise self._failed(error, "write", name) from error
        found = self._read(name)
        assert found is not None
        return found

    def _make(self, part: str) -> None:
        path = self._path(part)
        try:
            if not os.path.isdir(path):
                durable.make_dirs(path)
                self._hand_over(part)
        except OSError as error:
            raise self._failed(error, "make", part) from error

    def _read(self, name: str) -> bytes | None:
        try:
            with open(self._path(name), "rb") as file:
                return file.read(_FILE_SIZE_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed(error, "read", name) from error

    def _write(self, name: str, data: bytes) -> None:
        try:
            durable.replace(self._path(name), data)
            self._hand_over(name)
        except OSError as error:
            raise self._failed(error, "write", name) from error

    def _forget(self, name: str) -> None:
        try:
            durable.remove(self._path(name))
        except OSError as error:
            raise self._failed(error, "remove", name) from error

    def _listed(self, part: str) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._path(part)) if HOLDER.fullmatch(name))
        except OSError as error:
            raise self._failed(error, "list", part) from error

    def _hand_over(self, name: str) -> None:
        if name and os.geteuid() == 0:
            owner = os.stat(self._directory)
            os.chown(self._path(name), owner.st_uid, owner.st_gid)

    def _failed(self, error: OSError, verb: str, name: str) -> BlocksnapError:
        return HostError(
            f"could not {verb} {self._path(name).rstrip('/')}: {error.strerror or error}",
            effect="No host was paired, renewed or revoked; what was shipped is untouched.",
            hint="See the disk, and the owner and mode of the directory.",
        )


def command_for(holder: str) -> str:
    """Return what shows a code for ``holder`` on the receiver."""
    role, _, host = holder.partition(":")
    return f"blocksnapd pair-code {host}" + ("" if role == "source" else f" --role {role}")


def _packed(found: Holder | OpenCode) -> bytes:
    return json.dumps(asdict(found)).encode() + b"\n"


def _code_in(raw: bytes) -> OpenCode | None:
    """Return the code; None for a file that is damaged: then a new code is to be shown."""
    try:
        found = json.loads(raw)
        return OpenCode(read_code(found["code"]), float(found["until"]), int(found["tries"]))
    except (ValueError, TypeError, KeyError, AttributeError, BlocksnapError):
        return None


def _holder_in(raw: bytes) -> Holder:
    try:
        found = json.loads(raw)
        pairing, since = found["pairing"], float(found["since"])
        if not isinstance(pairing, str):
            raise TypeError
    except (ValueError, TypeError, KeyError):
        return Holder("", 0.0)  # a damaged file lets nobody in
    return Holder(pairing, since)
