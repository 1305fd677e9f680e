"""`workbench bench models`: whole models in many engines."""

import argparse
from pathlib import Path

from workbench.cli.bench.common import add_common, leave

MODELS = """\
Time whole models in every engine that runs here, in turns: encoders forward over 128 tokens,
language models over a prompt of 256 tokens (prefill) and then one token with the cache it left
(decode), all at batch 1. Quality is the mean cosine of the hidden states with those of float32, or
the KL divergence of the next token's distribution from float32's. Size is that of the weights in
memory, of the file that an engine reads, or of the constants of its graph: each row says which.
Engines that are absent are named with how to install them. Ours runs as it is and, in rows of their
own, as `workbench.compile` has it.

  bert-base      a random BERT-base                       minilm   the real sentence encoder
  llama-8x2048   a random Llama, 2048 x 5632 x 8 layers   pylm     the bundled language model

All variants of a model are in memory at once: llama-8x2048 takes about 12 GB with every engine.
"""

MODELS_EXAMPLES = """\
examples:
  workbench bench models minilm bert-base --compile
  workbench bench models minilm --json figures.json --chart figures.svg
  workbench bench models llama-8x2048 --engines 'torch fp32' 'torch bf16' workbench
"""


def add(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    models = kinds.add_parser(
        "models",
        help="whole models in many engines: time of a forward, a prefill, a token, and quality",
        description=MODELS,
        epilog=MODELS_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models.add_argument("models", nargs="*", metavar="NAME", help="as above (default: all)")
    models.add_argument(
        "--bits", nargs="+", type=int, default=[8, 4], help="of a weight: 8, 4, 2 (default: 8 4)"
    )
    models.add_argument(
        "--compile", action="store_true",
        help="encoders of other engines through torch.compile too, where they are torch modules",
    )  # fmt: skip
    models.add_argument(
        "--seconds", type=float, default=20, metavar="S",
        help="for timing each model, phase and number of threads (default: %(default)s)",
    )  # fmt: skip
    models.add_argument(
        "--chart", type=Path, metavar="FILE",
        help="also draw size by time, with the quality of each mark: an .svg or .html file",
    )  # fmt: skip
    add_common(models)
    models.set_defaults(command=_measure)


def _measure(arguments: argparse.Namespace) -> int:
    from workbench.bench import chart, measure_models, model_chart
    from workbench.console import at_work, show_models

    if arguments.chart is not None:
        chart.check(arguments.chart)
    with at_work():
        report = measure_models(
            arguments.models,
            arguments.threads,
            arguments.engines,
            arguments.bits,
            arguments.compile,
            arguments.seconds,
        )
    show_models(report)
    leave(report, arguments, model_chart.save_chart)
    return 0
