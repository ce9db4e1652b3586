"""blocksnapd: the daemon, and the jobs that need its insides. argv → exit code.

blocksnapd [run] [--config FILE]                    protect the configured volumes
blocksnapd config check|show|diff|schema [--config FILE]   check it (as `check` does), show it
blocksnapd init URL --keys DIR [--passphrase] [--credentials FILE]   make a repository and its keys
blocksnapd cow create|attach|remove [NAME]          the configured COW space
blocksnapd volumes [--json|--plain] [--config FILE]   what this host has to protect
blocksnapd doctor [--fix] [--config FILE]           find and repair half-done states
blocksnapd maintain [--json] [TARGET ...]           merge, prune, collect, verify now
blocksnapd maintain URL --key FILE [--keep RULE ...]   the same without a configuration
blocksnapd drill VOLUME [POINT]                     restore a point to a scratch place, check it
blocksnapd export NAME                              serve a target's points over NBD, as configured
blocksnapd receive [--config FILE]                  keep the repositories of other hosts
blocksnapd receive --status [--root ROOT] [--json]   tell how old each host's newest points are
blocksnapd pair-code HOST                           show a code with which HOST may pair with us
blocksnapd revoke HOST                              let HOST's certificates in no more
blocksnapd pair URL [CODE] [--as HOST]              pair this host with the receiver at URL
blocksnapd worker --socket PATH --repo URL --key FILE   serve one repository to its caller
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import getpass
import json
import logging
import os
import sys
from typing import TYPE_CHECKING

from blocksnapd import __version__
from blocksnapd.control.messages import (
    DEFAULT_CONFIG,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    SCHEMA,
)
from blocksnapd.errors import BlocksnapError, KeyMissingError, NotFoundError, UsageError
from blocksnapd.runtime.reader import ends_unread
from blocksnapd.units import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocksnapd.config_receive import ReceiveConfig
    from blocksnapd.model import Access

    _Add = Callable[[str, object, str], argparse.ArgumentParser]

RECEIVE_CONFIG = "/etc/blocksnap/receive.toml"
PKI = "/etc/blocksnap/pki"
ROLES = ("source", "reader", "maintainer")
_NOTHING_MADE = "Nothing was made."
_CREDENTIALS = "for object storage, like ~/.aws/credentials; left out: AWS_* of the environment"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, one of the constants ``EXIT_*``."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads: nothing here needs them
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else arguments.log_level,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        with ends_unread(EXIT_INTERRUPTED):
            result: int | None = arguments.command(arguments)
    except BlocksnapError as error:
        sys.stderr.write(f"blocksnapd: {error.message}\n")
        for more in filter(None, (error.effect, error.hint)):
            sys.stderr.write(f"  {more}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return result or EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("blocksnapd", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--version", action="version", version=f"blocksnapd {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    parser.add_argument("--config", default=DEFAULT_CONFIG, metavar="FILE")
    parser.set_defaults(command=_run, log_level=logging.INFO)
    commands = parser.add_subparsers(title="commands")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--config", default=argparse.SUPPRESS, metavar="FILE", help=f"default: {DEFAULT_CONFIG}"
    )

    def add(name: str, command: object, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[shared], help=text, description=text)
        made.set_defaults(command=command)
        return made

    add("run", _run, "protect the configured volumes (the default)")
    add("check", _check, "check the configuration, change nothing")
    config = add("config", _config, "check it, show what holds, what differs, what may be written")
    config.add_argument("action", choices=["check", "show", "diff", "schema"])
    config.add_argument("--json", action="store_true", help="one JSON document")
    init = add("init", _init, "make a repository and its keys")
    init.add_argument("url", help="a directory that is empty or new, or s3://bucket/prefix")
    init.add_argument("--credentials", metavar="FILE", help=_CREDENTIALS)
    init.add_argument("--keys", required=True, metavar="DIR", help="where the key files go")
    init.add_argument("--passphrase", action="store_true", help="seal restore.key (asked for)")
    cow = add("cow", _cow, "set up, attach or remove the configured COW space")
    cow.add_argument("verb", choices=["create", "attach", "remove"])
    cow.add_argument("name", nargs="*", help="of [cow.NAME]; all of them when left out")
    volumes = add("volumes", _volumes, "list this host's block volumes and the TOML for each")
    doctor = add("doctor", _doctor, "find half-done states; with --fix repair them")
    doctor.add_argument("--fix", action="store_true")
    for one in (volumes, doctor):
        one.add_argument("--json", dest="form", action="store_const", const="json")
        one.add_argument("--plain", dest="form", action="store_const", const="plain")
    maintain = add("maintain", _maintain, "merge, prune, collect and verify repositories, once")
    text = "all with a maintenance_key when left out; or one URL, without a configuration"
    maintain.add_argument("target", nargs="*", help=text)
    maintain.add_argument("--key", metavar="FILE", help="with a URL: its maintenance.key")
    maintain.add_argument("--credentials", metavar="FILE", help=_CREDENTIALS)
    maintain.add_argument(
        "--keep", action="append", default=[], metavar="RULE",
        help="with a URL: what to keep, like '1/h for 2d'; left out, nothing is forgotten",
    )  # fmt: skip
    maintain.add_argument("--json", action="store_true", help="one event a line")
    drill = add("drill", _drill, "restore a point to a scratch place and have it checked, once")
    drill.add_argument("volume", help="one whose configuration says drill = ...")
    drill.add_argument("point", nargs="?", default="", help="the newest when left out")
    export = add("export", _export, "serve the points of a target over NBD, as configured")
    export.add_argument("name", help="of [export.NAME]")
    receive = add("receive", _receive, f"keep the repositories of other hosts ({RECEIVE_CONFIG})")
    _add_pairing(add, receive)
    worker = add("worker", _worker, "serve one repository on a private socket (for blocksnapctl)")
    worker.set_defaults(log_level=logging.WARNING)  # its stderr is the operator's terminal
    worker.add_argument("--socket", required=True)
    worker.add_argument("--repo", required=True)
    worker.add_argument("--key", required=True)
    worker.add_argument("--passphrase-fd", type=int, default=None)
    worker.add_argument("--detached", action="store_true", help="end after the last run instead")
    return parser


def _add_pairing(add: _Add, receive: argparse.ArgumentParser) -> None:
    pair = add("pair", _pair, "pair this host with a receiver; prints the target to paste")
    pair.add_argument("url", help="like https://backup1:7420 or ssh://blocksnap@backup1")
    pair.add_argument("code", nargs="?", help="as the receiver shows it; asked for if left out")
    pair.add_argument("--as", dest="host", metavar="HOST", help="default: the name of this host")
    pair.add_argument("--pki", default=PKI, metavar="DIR", help=f"for the files (default {PKI})")
    code = add("pair-code", _pair_code, "on a receiver: show a code with which HOST may pair")
    revoke = add("revoke", _revoke, "on a receiver: let the certificates of HOST in no more")
    receive.add_argument("--stdio", action="store_true", help="serve one host, for sshd")
    receive.add_argument("--host", metavar="HOST", help="with --stdio: the host that asks")
    receive.add_argument("--status", action="store_true", help="tell what is kept of whom")
    receive.add_argument("--root", metavar="ROOT", help="with --status: not the configured one")
    receive.add_argument("--json", action="store_true", help="with --status: one JSON document")
    for one in (code, revoke):
        one.add_argument("host", metavar="HOST")
    for one in (pair, code, revoke, receive):
        one.add_argument("--role", choices=ROLES, default="source", help="default: source")


def _run(arguments: argparse.Namespace) -> None:
    from blocksnapd.config import load
    from blocksnapd.daemon import run_daemon

    faulthandler.enable()  # the watchdog's SIGABRT leaves every thread's stack in the journal
    asyncio.run(run_daemon(load(arguments.config)))


def _check(arguments: argparse.Namespace) -> None:
    from blocksnapd.config import load

    config = load(arguments.config)
    volumes, targets = len(config.volumes), len(config.targets)
    if getattr(arguments, "json", False):
        found = {"schema": SCHEMA, "path": config.path, "volumes": volumes, "targets": targets}
        print(json.dumps(found))
    else:
        counts = f"{format_count(volumes, 'volume')}, {format_count(targets, 'target')}"
        print(f"{config.path}: {counts}")


def _config(arguments: argparse.Namespace) -> None:
    from blocksnapd import config_view
    from blocksnapd.config import load

    if arguments.action == "check":
        _check(arguments)
    elif arguments.action == "schema":
        print(json.dumps(config_view.json_schema(), indent=None if arguments.json else 2))
    elif arguments.action == "diff":
        from blocksnapd.service.config_diff import differing

        found = asyncio.run(differing(load(arguments.config)))
        document = {"schema": SCHEMA, "path": arguments.config, "differences": found}
        same = "a reload would change nothing"
        print(json.dumps(document) if arguments.json else "\n".join(found) or same)
    else:
        settled = config_view.settled(load(arguments.config))
        document = {"schema": SCHEMA, "path": arguments.config, "settings": settled}
        print(json.dumps(document) if arguments.json else "\n".join(config_view.lines(settled)))


def _access(credentials: str | None = None) -> Access:
    """Return what opens the doors of places that no configuration names."""
    from blocksnapd.model import Access

    names = ("BLOCKSNAP_CA", "BLOCKSNAP_CERT", "BLOCKSNAP_CERT_KEY")
    ca, cert, key = (os.environ.get(name) or None for name in names)
    return Access(ca=ca, cert=cert, key=key, credentials=credentials)


def _init(arguments: argparse.Namespace) -> None:
    from blocksnapd.store.init import init_repository

    passphrase = _new_passphrase() if arguments.passphrase else None
    access = _access(arguments.credentials)
    report = init_repository(arguments.url, arguments.keys, passphrase, access=access)
    print(report.advice(), end="")


def _new_passphrase() -> str:
    first = getpass.getpass("Passphrase for restore.key: ")
    if first != getpass.getpass("Again: "):
        raise UsageError("the two passphrases differ", effect=_NOTHING_MADE, hint="Try again.")
    if not first:
        hint = "Leave --passphrase out."
        raise UsageError("an empty passphrase seals nothing", effect=_NOTHING_MADE, hint=hint)
    return first


def _cow(arguments: argparse.Namespace) -> None:
    from blocksnapd.config import load
    from blocksnapd.cycle import cow_space
    from blocksnapd.cycle.lvm import Lvm
    from blocksnapd.service.opening import as_cow_space

    config = load(arguments.config)
    verbs = {"create": cow_space.create, "attach": cow_space.attach, "remove": cow_space.remove}
    for name in arguments.name or config.cow:
        if name not in config.cow:
            raise NotFoundError(
                f"{config.path} has no [cow.{name}]",
                effect="Nothing more was done.",
                hint=f"It has: {', '.join(config.cow) or 'none'}",
            )
        space = as_cow_space(config.cow[name])
        done = asyncio.run(verbs[arguments.verb](Lvm(), space))
        for sentence in done or [f"Nothing to do for COW space {name}."]:
            print(sentence)


def _volumes(arguments: argparse.Namespace) -> int:
    from blocksnapd.service.survey import survey

    return asyncio.run(survey(arguments.config, arguments.form))


def _doctor(arguments: argparse.Namespace) -> int:
    from blocksnapd.config import load
    from blocksnapd.service.checkup import checkup

    return asyncio.run(checkup(load(arguments.config), fix=arguments.fix, form=arguments.form))


def _maintain(arguments: argparse.Namespace) -> int:
    from blocksnapd.config import load
    from blocksnapd.service.maintain_targets import maintain

    os.nice(19)  # points come first
    if any("/" in target for target in arguments.target):
        return _maintain_url(arguments)
    if arguments.key or arguments.credentials or arguments.keep:
        raise UsageError(
            "a configured target has its key, its credentials and its retention there",
            effect="Nothing was done.", hint="Leave the options out, or give a URL.",
        )  # fmt: skip
    return maintain(load(arguments.config), arguments.target, as_json=arguments.json)


def _maintain_url(arguments: argparse.Namespace) -> int:
    from blocksnapd.maintain.maintainer import Orders
    from blocksnapd.model import Access
    from blocksnapd.service.maintain_targets import Place, maintain_place
    from blocksnapd.service.pruning import policy_of

    if len(arguments.target) != 1 or arguments.key is None:
        raise UsageError(
            "a repository that no configuration names takes one URL and its --key",
            effect="Nothing was done.", hint="Give --key FILE, the maintenance.key that init made.",
        )  # fmt: skip
    policy = policy_of({"keep": arguments.keep}) if arguments.keep else None
    access = Access(credentials=arguments.credentials)
    place = Place(arguments.target[0], access, arguments.key, lambda _: Orders(policy=policy))
    return maintain_place(place, as_json=arguments.json)


def _drill(arguments: argparse.Namespace) -> int:
    from blocksnapd.config import load
    from blocksnapd.service.drill_run import drill_configured

    os.nice(19)  # points come first
    found = drill_configured(load(arguments.config), arguments.volume, arguments.point)
    print(json.dumps(found), flush=True)
    return EXIT_FAILED if found["result"] == "failed" else EXIT_OK


def _export(arguments: argparse.Namespace) -> None:
    from blocksnapd.config import load
    from blocksnapd.service.export_run import export_configured

    export_configured(load(arguments.config), arguments.name)


def _receive(arguments: argparse.Namespace) -> int | None:
    import uvloop

    from blocksnapd.pki.certificates import check_holder
    from blocksnapd.receive import fleet
    from blocksnapd.receive.caller import Caller
    from blocksnapd.receive.service import run_receiver
    from blocksnapd.receive.stdio import receive_stdio

    root = fleet.root_named(arguments.root)  # told also where no receiver is configured
    config = _receive_config(arguments)
    if arguments.status:
        return fleet.show(fleet.at_root(config, root), as_json=arguments.json)
    if not arguments.stdio:
        return uvloop.run(run_receiver(config))
    if arguments.host is None:
        hint = 'In authorized_keys: restrict,command="blocksnapd receive --stdio --host NAME" …'
        raise UsageError("--stdio needs to know for which host", hint=hint)
    check_holder(f"{arguments.role}:{arguments.host}")
    return uvloop.run(receive_stdio(config, Caller(arguments.host, arguments.role)))


def _receive_config(arguments: argparse.Namespace) -> ReceiveConfig:
    from blocksnapd.config_receive import load_receive

    return load_receive(RECEIVE_CONFIG if arguments.config == DEFAULT_CONFIG else arguments.config)


def _pair(arguments: argparse.Namespace) -> None:
    from blocksnapd.service import pairing

    url, role, directory = arguments.url, arguments.role, arguments.pki
    host = arguments.host or pairing.own_host_name()
    if url.startswith("ssh:"):
        if arguments.code is not None:
            raise UsageError("ssh:// takes no code", effect=_NOTHING_MADE, hint="Leave it out.")
        print(pairing.pair_over_ssh(url, host, role, directory), end="")
        return
    code = arguments.code or getpass.getpass("Code: ")
    print(pairing.pair_over_https(url, code, host, role, directory), end="")


def _pair_code(arguments: argparse.Namespace) -> None:
    from blocksnapd.service.pairing import show_code

    print(show_code(_receive_config(arguments), arguments.host, arguments.role), end="")


def _revoke(arguments: argparse.Namespace) -> None:
    from blocksnapd.service.pairing import revoke

    print(revoke(_receive_config(arguments), arguments.host, arguments.role), end="")


def _worker(arguments: argparse.Namespace) -> None:
    from blocksnapd.store.keys import RestoreKey, load_maintenance
    from blocksnapd.store.places import open_store
    from blocksnapd.store.repository import Repository
    from blocksnapd.worker import run_worker

    def passphrase() -> str:
        if arguments.passphrase_fd is None:
            raise KeyMissingError("restore.key is sealed", hint="Give its passphrase.")
        with os.fdopen(arguments.passphrase_fd) as file:
            return file.readline().rstrip("\n")

    key = load_maintenance(arguments.key, passphrase)
    reads = key if isinstance(key, RestoreKey) else None
    store = open_store(arguments.repo, _access())
    repository = Repository.on(store, maintenance=key, restore=reads)
    ended = None if arguments.detached else _wait_for_end
    asyncio.run(run_worker(repository, store, key, arguments.socket, ended))


def _wait_for_end() -> None:
    """Return once standard input is closed: whoever started the worker is gone."""
    while os.read(sys.stdin.fileno(), 4096):
        pass


if __name__ == "__main__":
    sys.exit(main())
