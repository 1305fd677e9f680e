"""`workbench compress`: distil, prune, quantize, and measure every step."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.recipe import Recipe

COMPRESS = """\
Make a smaller model of the recipe's, as its section `compression` says: fine-tune a teacher,
distil a student, prune heads and feed-forward units, quantize, run several instances; and measure
each step on this machine and this task, against the teacher on padded inputs and on inputs of
their own lengths. The same command goes on after an interruption.

Several recipes that share model and task are the points of a trade-off: they share the teacher and
students trained alike, are measured in turns with each other, and the picture shows accuracy
against time, with intervals and with those that lose to another.
"""

COMPRESS_EXAMPLES = """\
examples:
  workbench compress recipe.json --out small
  workbench compress recipe.json --out small --chart waterfall.html
  workbench compress third.json quarter.json --out small --chart trade-off.html
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
    compress.add_argument(
        "recipes", type=Path, nargs="+", metavar="RECIPE", help="a recipe (*.json), or several"
    )
    compress.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER",
        help="for the models, and the figures as waterfall.json",
    )  # fmt: skip
    compress.add_argument(
        "--chart",
        type=Path,
        metavar="FILE",
        help="the factors (.svg), or a page with accuracy against time and tables (.html)",
    )
    compress.set_defaults(command=_compress)


def _compress(arguments: argparse.Namespace) -> int:
    from workbench.console import at_work, show_waterfall
    from workbench.waterfall.page import save_chart
    from workbench.waterfall.verb import compress

    with at_work():
        found = compress(_asked(arguments.recipes), arguments.out)
    show_waterfall(found)
    if arguments.chart is not None:
        save_chart(found, arguments.chart)
        print(f"Picture: {arguments.chart}")
    return 0


def _asked(paths: Sequence[Path]) -> "Recipe | dict[str, Recipe]":
    """One recipe, or several by the names of their files."""
    from workbench.errors import WorkbenchError
    from workbench.recipe import Recipe

    recipes = {path.stem: Recipe.load(path) for path in paths}
    if len(recipes) < len(paths):
        raise WorkbenchError("two recipes have the same file name: their folders would be one")
    return recipes if len(paths) > 1 else recipes[paths[0].stem]
