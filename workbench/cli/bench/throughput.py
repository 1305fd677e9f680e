"""`workbench bench throughput`: samples a second, by batch size and number of instances."""

import argparse
from pathlib import Path

THROUGHPUT = """\
Run 64 sequences of 128 tokens (or sentences) through each model in fp32, in bf16 and quantized, by
batch size, in one process with all cores and in several, each with cores of its own. Several
instances raise what gets through, not how soon one answer is there: both are shown. Weights are
mapped from files, so that instances share what no packing copies; memory is what they hold together
by the system's account. Energy is that of the processor where the machine shows its counters.
"""

THROUGHPUT_EXAMPLES = """\
examples:
  workbench bench throughput minilm
  workbench bench throughput pylm o1.json --batch-sizes 1 8 32 --instances 1 2 4 --json figures.json
"""


def add(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    throughput = kinds.add_parser(
        "throughput",
        help="samples a second with several instances, by batch size, and what an answer takes",
        description=THROUGHPUT,
        epilog=THROUGHPUT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    throughput.add_argument(
        "recipes", nargs="*", default=["pylm"], metavar="RECIPE",
        help="a recipe (*.json), or a model to quantize as recipes do by default (default: pylm)",
    )  # fmt: skip
    throughput.add_argument(
        "--batch-sizes", nargs="+", type=int, default=[1, 8], metavar="N", help="default: 1 8"
    )
    throughput.add_argument(
        "--instances", nargs="+", type=int, default=[], metavar="N",
        help="how many share the cores (default: 1, and one for each core)",
    )  # fmt: skip
    throughput.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    throughput.add_argument("--json", type=Path, metavar="FILE", help="also write every figure")
    throughput.set_defaults(command=_measure)


def _measure(arguments: argparse.Namespace) -> int:
    from workbench.bench import measure_throughput
    from workbench.console import at_work, show_throughput
    from workbench.scoreboard import read_recipes

    with at_work():
        report = measure_throughput(
            read_recipes(arguments.recipes),
            arguments.batch_sizes,
            arguments.instances,
            seed=arguments.seed,
        )
    show_throughput(report)
    if arguments.json is not None:
        report.save(arguments.json)
        print(f"Every figure: {arguments.json}")
    return 0
