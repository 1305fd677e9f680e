"""Options that the benchmarks of engines share."""

import argparse
from pathlib import Path


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
