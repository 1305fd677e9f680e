"""Parse the command line and run one command."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from workbench.cli import (
    bench,
    chat,
    compress,
    doctor,
    evaluate,
    export,
    lab,
    report,
    run,
    serve,
    train,
    train_bench,
)
from workbench.errors import WorkbenchError

COMMANDS = (
    run,
    evaluate,
    report,
    export,
    train,
    train_bench,
    compress,
    chat,
    lab,
    serve,
    bench,
    doctor,
)
"""Modules with `add(commands)`, which adds a parser whose `command` default does the work."""

DESCRIPTION = """\
See which activation channels break 8-bit arithmetic, smooth them, quantize, compare, take it away.

  workbench run                                the bundled model through the whole path, as a table
  workbench run --model minilm --alpha 0.9     the same for a sentence encoder
  workbench run recipe.json                    a recipe of your own (the notebook writes them)
  workbench evaluate pylm                      quantized beside its original on tasks, and tested
  workbench report pylm --out report.html      all of that as one page to hand over
  workbench export pylm --to gguf OUT          a model as other engines take it
  workbench train minilm --train A.tsv ...     fine-tune a classifier, or distil a smaller one
  workbench compress recipe.json --out small   distil, prune, quantize; each step measured
  workbench chat pylm                          the original and int8 answer side by side
  workbench lab                                JupyterLab on the workbench notebook
  workbench serve                              the same notebook as an app, under Voila
  workbench bench memory                       memory of a model by number type, peak included
  workbench bench layers --json figures.json   one layer in many engines: time by bits, and quality
  workbench bench models minilm                whole models in many engines
  workbench train-bench pylm                   how much faster training gets, and by what
  workbench doctor                             what this machine can do, and what it cannot and why
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 2 where the request was refused, 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("workbench: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "workbench",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"workbench {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def _version() -> str:
    try:
        return version("quantization-workbench")
    except PackageNotFoundError:
        return "(not installed)"
