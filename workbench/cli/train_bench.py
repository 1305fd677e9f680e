"""`workbench train-bench`: transformers' trainer and ours, each accelerator alone and together."""

import argparse
from pathlib import Path

from workbench.cli.bench.common import leave

TRAIN_BENCH = """\
Train the same model on the same rows with transformers' Trainer at its defaults and with ours: each
accelerator alone, and all together. The runs are processes that take turns of a few steps, so that
whatever disturbs the machine disturbs all alike. Prints samples and tokens a second, how many times
faster, what compiling took, the peak of memory, and whether the held-out loss at the end is within
that of several seeds of transformers' Trainer.

  minilm   all-MiniLM-L6-v2 fine-tuned on SST-2 (--data names the folder that holds sst2/)
  pylm     the bundled language model from scratch, on this interpreter's standard library

For a model and data of your own: workbench.train_bench(Material(model, train, held_out)).
"""

TRAIN_BENCH_EXAMPLES = """\
examples:
  workbench train-bench pylm
  workbench train-bench minilm --data DATA --json figures.json --chart figures.svg
  workbench train-bench minilm --accelerate bf16 by_length --steps 128 --threads 1
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    bench = commands.add_parser(
        "train-bench",
        help="how much faster training gets, by what, at the same loss",
        description=TRAIN_BENCH,
        epilog=TRAIN_BENCH_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bench.add_argument("subject", metavar="NAME", help="minilm or pylm")
    bench.add_argument(
        "--accelerate", nargs="+", default=[], metavar="NAME",
        help="accelerators to try (default: all; those that do not apply say why)",
    )  # fmt: skip
    bench.add_argument("--data", type=Path, metavar="FOLDER", help="where data sets lie as files")
    bench.add_argument(
        "--steps", type=int, default=64, metavar="N",
        help="optimizer steps of each run (default: %(default)s)",
    )  # fmt: skip
    bench.add_argument(
        "--batch", type=int, default=8, metavar="N",
        help="rows of a step (default: %(default)s, as transformers has it)",
    )  # fmt: skip
    bench.add_argument(
        "--seeds", type=int, default=3, metavar="N",
        help="runs of transformers' Trainer (default: %(default)s)",
    )  # fmt: skip
    bench.add_argument("--threads", type=int, metavar="N", help="of each run (default: torch's)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    bench.add_argument(
        "--chart", type=Path, metavar="FILE",
        help="also draw speed and loss curves: an .svg or .html file",
    )  # fmt: skip
    bench.set_defaults(command=_measure)


def _measure(arguments: argparse.Namespace) -> int:
    from workbench.bench import chart, training_chart
    from workbench.bench.training import train_bench
    from workbench.console import at_work, show_training
    from workbench.models.atomic import try_writing

    if arguments.chart is not None:
        chart.check(arguments.chart)
    for path in (arguments.json, arguments.chart):  # before minutes of training
        if path is not None:
            try_writing(path)
    with at_work():
        report = train_bench(
            arguments.subject,
            accelerate=arguments.accelerate,
            steps=arguments.steps,
            batch=arguments.batch,
            seeds=arguments.seeds,
            threads=arguments.threads,
            data=arguments.data,
        )
    show_training(report)
    leave(report, arguments, training_chart.save_chart)
    return 0
