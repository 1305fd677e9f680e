"""Options that the benchmarks of engines share, and the files that they leave."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar


class Saved(Protocol):
    """A report that can be written to a file."""

    def save(self, path: Path) -> None:
        """Write all of it to `path`."""


R = TypeVar("R", bound=Saved)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add threads, engines and the file for the figures."""
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[], metavar="N",
        help="how many, each measured on its own (default: 1 and all cores)",
    )  # fmt: skip
    parser.add_argument(
        "--engines", nargs="+", default=[], metavar="NAME",
        help="such as 'torch fp32' workbench openvino (default: all that are installed)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")


def leave(report: R, arguments: argparse.Namespace, draw: Callable[[R, Path], None]) -> None:
    """Write the figures and the picture that were asked for, and say where they are."""
    if arguments.json is not None:
        report.save(arguments.json)
        print(f"Every figure: {arguments.json}")
    if arguments.chart is not None:
        draw(report, arguments.chart)
        print(f"Picture: {arguments.chart}")
