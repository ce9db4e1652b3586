"""The command line's verbs for day 1, day 30 and the middle of the night. Pure.

Verbs in ``PASSED_ON`` are the daemon program's: they need its insides or a root's rights. They are
told of here all the same, so that help, completion and manual pages know them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

    from blocksnapctl.arguments import _Verb

PASSED_ON: Final = ("init", "volumes", "doctor", "cow", "config", "pair", "pair-code", "revoke")


def operating(verb: _Verb) -> None:
    """Add the verbs to the tree."""
    explain = verb("explain", "Say why something is as it is, what it costs, and what to do.")
    explain.add_argument(
        "items", nargs="*", metavar="VOLUME|RUN|POINT|CODE",
        help="also a state such as late, or a finding of doctor; every volume when left out",
    )  # fmt: skip
    explain.add_argument("--all", action="store_true", help="every state, code and finding")
    check = verb("check", "One line for Nagios: exit code 0 OK, 1 warning, 2 critical, 3 unknown.")
    check.add_argument("volumes", nargs="*", metavar="VOLUME")
    wait = verb("wait", "Wait until a run is done; its result is ours.")
    wait.add_argument("item", metavar="RUN|VOLUME", help="of a volume the run under way")
    verb("reload", "Let the daemon take its changed configuration up; no run is dropped.")
    support = verb("support", "Collect what somebody who helps wants to see; no secrets.")
    support.add_argument("--to", metavar="FILE", help="a new file (default: here, by the time)")
    completion = verb("completion", "Print what lets a shell complete verbs and options.")
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
    verb("version", "Tell the versions of this program and of the daemon.")
    _passed_on(verb)


def _passed_on(verb: _Verb) -> None:
    init = verb("init", "Make a repository and its keys.")
    init.add_argument("url", metavar="URL")
    init.add_argument("--keys", metavar="DIR", required=True, help="where the key files go")
    init.add_argument("--passphrase", action="store_true", help="seal restore.key with one")
    volumes = verb("volumes", "List this host's block volumes, and the TOML that protects each.")
    doctor = verb("doctor", "Find what is half done or endangers the host; with --fix repair it.")
    doctor.add_argument("--fix", action="store_true", help="repair what can be repaired")
    cow = verb("cow", "Make, attach or remove the configured COW space.")
    cow.add_argument("action", choices=["create", "attach", "remove"])
    cow.add_argument("names", nargs="*", metavar="NAME", help="all of them when left out")
    config = verb("config", "Check or show the configuration, or what a reload would change.")
    config.add_argument("action", choices=["check", "show", "diff", "schema"])
    pair = verb("pair", "Pair this host with a receiver; prints the target to paste.")
    pair.add_argument("url", metavar="URL", help="https://backup1:7420 or ssh://blocksnap@backup1")
    pair.add_argument("code", nargs="?", metavar="CODE", help="asked for when left out")
    pair.add_argument("--as", dest="host", metavar="HOST", help="default: the name of this host")
    pair.add_argument("--pki", metavar="DIR", help="for the files (default /etc/blocksnap/pki)")
    code = verb("pair-code", "On a receiver: show a code with which HOST may pair.")
    revoke = verb("revoke", "On a receiver: let the certificates of HOST in no more.")
    for added in (code, revoke):
        added.add_argument("host", metavar="HOST")
        _file(added)
    for added in (pair, code, revoke):
        added.add_argument(
            "--role", choices=["source", "reader", "maintainer"], help="default: source"
        )
    for added in (volumes, doctor, cow, config):
        _file(added)


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="the configuration file")
