"""The commands that bring a source and a receiver together: what they do, and what they print.

``pair`` runs on the source, ``pair-code`` and ``revoke`` on the receiver's host, as root or as the
user that owns the receiver's directory. Everything blocks.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blocksnapd.errors import CertificateError, ConfigError, HostError, UsageError
from blocksnapd.pki.certificates import check_holder
from blocksnapd.pki.registry import CODE_LIFETIME_S, TRIES, Registry
from blocksnapd.receiver_url import parse_ssh
from blocksnapd.runtime import durable
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.store.receiver_pairing import pair, target_name
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from blocksnapd.config_receive import ReceiveConfig


def pair_over_https(url: str, code: str, host: str, role: str, directory: str) -> str:
    """Pair with a receiver for a code; return what to tell.

    Raises:
        BlocksnapError: as ``receiver_pairing.pair``.
    """
    made = pair(url, code, f"{role}:{host}", os.path.abspath(directory))
    text = f"Paired with {url}: {role} of host {host}.\n"
    return text + _target(made.name, {"url": url, "ca": made.ca, "cert": made.cert})


def pair_over_ssh(url: str, host: str, role: str, directory: str) -> str:
    """Make a key for the receiver at ``ssh://…`` unless there is one; return what to tell.

    Raises:
        UsageError: that is no such URL, or no name of a host. CertificateError: the key that is
            there is none. HostError: it cannot be written.
    """
    try:
        where = parse_ssh(url)
    except ValueError as error:
        raise UsageError(str(error), effect="Nothing was made.") from error
    holder = check_holder(f"{role}:{host}")
    name = target_name(where.host)
    file = f"{name}.ssh" if role == "source" else f"{name}-{role}.ssh"
    path = os.path.join(os.path.abspath(directory), file)
    public = _public_half(path)
    forced = f"blocksnapd receive --stdio --host {shlex.quote(host)}"
    forced += "" if role == "source" else f" --role {role}"
    return (
        f"On {where.host}, add this line to ~/.ssh/authorized_keys of the user that the receiver "
        f'runs as:\n\nrestrict,command="{forced}" {public} {holder}\n\n'
        "Then log in there once by hand, as the user that runs blocksnapd here, and compare the "
        "host key's fingerprint.\n" + _target(name, {"url": url, "key": path})
    )


def show_code(config: ReceiveConfig, host: str, role: str) -> str:
    """Open a code for a host at this receiver; return what to tell.

    Raises:
        UsageError: that cannot be the name of a host. ConfigError: the receiver uses an authority
            that is not its own. HostError: its directory cannot be used.
    """
    code = _registry(config).open_code(f"{role}:{host}")
    url = f"https://{socket.gethostname()}:{config.receive.listen[0].tcp_port}"
    options = f" --as {host}" + ("" if role == "source" else f" --role {role}")
    lasts = format_duration(CODE_LIFETIME_S)
    return (
        f"{code}\n\nIt is good for {lasts}, one pairing and {TRIES} tries. On {host}, as root:\n\n"
        f"blocksnapctl pair {url} {code}{options}\n"
    )


def revoke(config: ReceiveConfig, host: str, role: str) -> str:
    """Let the certificates of a host in no more; return what to tell.

    Raises:
        NotFoundError: no such host was paired. ConfigError, HostError: as ``show_code``.
    """
    _registry(config).revoke(f"{role}:{host}")
    return (
        f"No certificate of {role} {host} is let in any more, from a few seconds on.\n"
        "What it shipped is untouched. A line for it in authorized_keys is yours to remove.\n"
    )


def _registry(config: ReceiveConfig) -> Registry:
    if config.pki.ca is not None:
        raise ConfigError(
            f"{config.path}: the receiver uses the authority in {config.pki.ca}",
            effect="Nothing was changed.",
            hint="Pairing is for its own authority: leave ca, cert and key out of [pki].",
        )
    return Registry(config.pki.directory, SystemClock())


def _public_half(path: str) -> str:
    """Return the public half of the key in ``path``, which is made if there is none."""
    key = _kept_key(path)
    if key is None:
        key = Ed25519PrivateKey.generate()
        data = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        try:
            durable.make_dirs(os.path.dirname(path))
            durable.create_only(path, [data])
        except OSError as error:
            raise HostError(
                f"{path} could not be written: {error.strerror or error}",
                effect="No key was made.",
                hint="See the disk, and the owner and mode of the directory; run it as root.",
            ) from error
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(*openssh).decode()


def _kept_key(path: str) -> Ed25519PrivateKey | None:
    try:
        with open(path, "rb") as file:
            found = serialization.load_ssh_private_key(file.read(65_536), None)
        if not isinstance(found, Ed25519PrivateKey):
            raise ValueError("of another kind")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CertificateError(
            f"{path} is not a key that this command made: {error}",
            effect="Nothing was changed.",
            hint="Move it away, and a new one is made.",
        ) from error
    return found


def _target(name: str, values: dict[str, str]) -> str:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    key = json.dumps("/etc/blocksnap/source.key")
    return f"\nFor the configuration:\n\n[target.{name}]\n{lines}source_key = {key}\n"


def own_host_name() -> str:
    """Return what this host is called where nothing else is asked for.

    Raises:
        UsageError: it has no name that can be used.
    """
    name = socket.gethostname().partition(".")[0]
    if not name or name == "localhost":
        raise UsageError(
            f"this host is called {name!r}",
            effect="Nothing was asked of anybody.",
            hint="Say what the receiver is to call it: --as NAME",
        )
    return name
