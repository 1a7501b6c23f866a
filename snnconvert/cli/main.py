"""Entry point: errors a user can act on become one line on stderr and exit code 2."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

from snnconvert.cli.arguments import build_parser
from snnconvert.errors import SnnConvertError

_COMMANDS = {
    "eval": "snnconvert.cli.eval_command",
    "simulate": "snnconvert.cli.simulate_command",
    "export": "snnconvert.cli.export_command",
    "search": "snnconvert.cli.search_command",
    "report": "snnconvert.cli.report_command",
    "compare": "snnconvert.cli.compare_command",
    "finetune": "snnconvert.cli.finetune_command",
}
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: without the program's name; defaults to the process's own.

    Returns:
        0 on success, 2 on bad input (nothing was written), 130 when interrupted, 141 if nobody reads stdout.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = importlib.import_module(_COMMANDS[given.pop(0)]) if given[:1] and given[0] in _COMMANDS else None
    options = (build_parser() if command is None else command.build_parser()).parse_args(given)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        command = command or importlib.import_module("snnconvert.cli.convert_command")
        command.run(options)
        sys.stdout.flush()
    except SnnConvertError as error:
        sys.stderr.write(f"snnconvert: error: {one_line(error)}\n")
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        sys.stderr.write("snnconvert: interrupted, nothing was written\n")
        return EXIT_INTERRUPTED
    return 0


def one_line(error: SnnConvertError) -> str:
    """An error's message on one line; of one relayed from a loader's worker, the last line."""
    last = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return last.removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")
