"""`workbench compress`: distil, prune, quantize, and measure every step."""

import argparse
from pathlib import Path

COMPRESS = """\
Make a smaller model of the recipe's, as its section `compression` says: fine-tune a teacher,
distil a student, prune heads and feed-forward units, quantize, run several instances; and measure
each step on this machine and this task, against the teacher on padded inputs and on inputs of
their own lengths. The same command goes on after an interruption.
"""

COMPRESS_EXAMPLES = """\
examples:
  workbench compress recipe.json --out small
  workbench compress recipe.json --out small --chart waterfall.html
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    compress = commands.add_parser(
        "compress",
        help="distil, prune and quantize a classifier, every step measured",
        description=COMPRESS,
        epilog=COMPRESS_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compress.add_argument("recipe", type=Path, metavar="RECIPE", help="a recipe (*.json)")
    compress.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER",
        help="for the models, and the figures as waterfall.json",
    )  # fmt: skip
    compress.add_argument(
        "--chart", type=Path, metavar="FILE", help="the picture (.svg), or with its table (.html)"
    )
    compress.set_defaults(command=_compress)


def _compress(arguments: argparse.Namespace) -> int:
    from workbench.console import at_work, show_waterfall
    from workbench.recipe import Recipe
    from workbench.waterfall.page import save_chart
    from workbench.waterfall.verb import compress

    with at_work():
        found = compress(Recipe.load(arguments.recipe), arguments.out)
    show_waterfall(found)
    if arguments.chart is not None:
        save_chart(found, arguments.chart)
        print(f"Picture: {arguments.chart}")
    return 0
