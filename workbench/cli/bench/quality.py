"""`workbench bench quality`: many variants of real models on held-out data."""

import argparse
from pathlib import Path

QUALITY = """\
Build real models in many variants and judge each on text that chose nothing of it: KL divergence
from the float model with its standard error, perplexity, or the cosine of embeddings.

  w8a8    int8 with int8 activations: O1, O2, O3, naive and smoothed
  alpha   O3 by alpha, and with the alphas that the search finds
  int4    weights in groups of 128: to nearest, least error, HQQ, AWQ, GPTQ, rotated
  int3    the same with 3 bits
  mixed   3 to 6 bits in the mean: the same for all layers, and allocated by sensitivity and trials

With --json the file is written after every row, and a second call goes on where the first ended.
"""

QUALITY_EXAMPLES = """\
examples:
  workbench bench quality pylm --families int4 mixed
  workbench bench quality --json quality.json --markdown quality.md
  workbench bench quality pylm-outliers --families alpha --samples 0
"""


def add(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    quality = kinds.add_parser(
        "quality",
        help="perplexity, divergence and cosine of many variants, on held-out data",
        description=QUALITY,
        epilog=QUALITY_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    quality.add_argument(
        "models", nargs="*", metavar="MODEL", help="default: pylm-outliers pylm minilm"
    )
    quality.add_argument(
        "--families", nargs="+", default=[], metavar="NAME", help="as above (default: all)"
    )
    quality.add_argument(
        "--samples", type=int, default=64, metavar="N",
        help="held-out sequences or sentences, 0 for all there are (default: %(default)s)",
    )  # fmt: skip
    quality.add_argument(
        "--calibration", type=int, default=32, metavar="N",
        help="other sequences or sentences to choose the numbers on (default: %(default)s)",
    )  # fmt: skip
    quality.add_argument(
        "--seed", type=int, default=0, metavar="N", help="draws both (default: %(default)s)"
    )
    quality.add_argument("--json", type=Path, metavar="FILE", help="keep every figure in FILE")
    quality.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables")
    quality.set_defaults(command=_measure)


def _measure(arguments: argparse.Namespace) -> int:
    from workbench.bench import measure_quality
    from workbench.bench.quality import MODELS
    from workbench.bench.quality_tables import quality_markdown
    from workbench.console import at_work, show_quality
    from workbench.models.atomic import write_text

    with at_work():
        report = measure_quality(
            arguments.models or MODELS,
            arguments.families,
            samples=arguments.samples or None,
            calibration=arguments.calibration,
            seed=arguments.seed,
            path=arguments.json,
        )
    show_quality(report)
    if arguments.json is not None:
        print(f"Every figure: {arguments.json}")
    if arguments.markdown is not None:
        write_text(arguments.markdown, quality_markdown(report))
        print(f"Tables: {arguments.markdown}")
    return 0
