"""blocksnapctl: argv → request → rendered reply → exit code. Edge."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from blocksnapctl.arguments import parse, passed_on
from blocksnapctl.client import ProblemError
from blocksnapctl.commands import VERBS, Context
from blocksnapctl.output import Output
from blocksnapctl.program import WorkerFailedError, daemon_program
from blocksnapd.control.messages import EXIT_INTERRUPTED, SOCKET_VARIABLE, problem
from blocksnapd.errors import BlocksnapError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence


def main(
    argv: Sequence[str] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    program: Sequence[str] | None = None,
) -> int:
    """Do what the command line says; return the exit code.

    Args:
        argv: the arguments; the process' own when left out.
        environ: the environment.
        program: how to start the daemon program.
    """
    argv = sys.argv[1:] if argv is None else argv
    program = program or daemon_program()
    try:
        if rest := passed_on(argv):
            sys.stdout.flush()
            os.execv(program[0], [*program, *rest])  # noqa: S606 - no shell, on purpose
        try:
            arguments = parse(argv, socket_path=environ.get(SOCKET_VARIABLE))
        except SystemExit:  # it printed its help, perhaps to nobody
            print(end="", flush=True)
            raise
        return _ask(arguments, Output(sys.stdout, sys.stderr, arguments, environ), program)
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep Python from complaining at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED


def _ask(arguments: argparse.Namespace, output: Output, program: Sequence[str]) -> int:
    try:
        return VERBS[arguments.verb](Context(arguments, output, program))
    except ProblemError as error:
        return output.problem(error.problem)
    except BlocksnapError as error:
        return output.problem(problem(error))
    except WorkerFailedError as error:
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
