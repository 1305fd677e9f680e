"""`workbench bench boolq`: FastFormers' measurement on this machine."""

import argparse
import tempfile
from pathlib import Path

from workbench.cli.bench.common import leave

BOOLQ = """\
Time what FastFormers timed, on this machine: BERT-base on BoolQ's passages and questions padded to
512 tokens, then each step on the way to a pruned int8 student of 4 layers in several instances. The
weights are random, so that only the times mean anything; the passages' lengths are real.
"""

BOOLQ_EXAMPLES = """\
examples:
  workbench bench boolq --data boolq/val.jsonl --json boolq.json --chart boolq.html
"""


def add(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    boolq = kinds.add_parser(
        "boolq",
        help="from padded BERT-base to a small int8 student: each step's factor",
        description=BOOLQ,
        epilog=BOOLQ_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    boolq.add_argument("--data", type=Path, required=True, metavar="FILE", help="rows as JSON")
    boolq.add_argument(
        "--slow", type=int, default=60, metavar="N",
        help="examples for BERT-base, spread over the lengths (default: %(default)s)",
    )  # fmt: skip
    boolq.add_argument("--limit", type=int, metavar="N", help="examples for the others")
    boolq.add_argument("--threads", type=int, metavar="N", help="for one request (default: all)")
    boolq.add_argument("--instances", type=int, metavar="N", help="default: one for each core")
    boolq.add_argument(
        "--engines", nargs="+", default=["workbench", "onnxruntime"], metavar="NAME",
        help="of int8: workbench, 'workbench compiled', onnxruntime (default: both)",
    )  # fmt: skip
    boolq.add_argument("--price", type=float, default=1.0, help="of an hour of this machine")
    boolq.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    boolq.add_argument("--chart", type=Path, metavar="FILE", help="the picture: .svg or .html")
    boolq.set_defaults(command=_measure)


def _measure(arguments: argparse.Namespace) -> int:
    from workbench.console import at_work, show_waterfall
    from workbench.waterfall.boolq import boolq
    from workbench.waterfall.page import save_chart

    with tempfile.TemporaryDirectory() as folder, at_work():
        found = boolq(
            arguments.data,
            Path(folder),
            engines=arguments.engines,
            limit=arguments.limit,
            slow=arguments.slow,
            threads=arguments.threads,
            instances=arguments.instances,
            price_per_hour=arguments.price,
        )
    show_waterfall(found)
    leave(found, arguments, save_chart)
    return 0
