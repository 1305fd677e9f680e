"""`workbench run`: one model through the whole path."""

import argparse
from pathlib import Path

RUN = """\
Take a model through load, observe, smooth, quantize, calibrate, freeze, compare and save, in every
variant worth setting side by side: fp32, bf16, and int8 weights with int8 activations, per-tensor
static (SmoothQuant's O3) and per-token dynamic (O1), without smoothing and with. Prints accuracy,
size on disk and latency of each and which op ran; leaves a checkpoint of each in the output folder.
"""

RUN_EXAMPLES = """\
examples:
  workbench run
  workbench run --model pylm --alpha 0.7
  workbench run recipe.json --json figures.json --out checkpoints
  workbench run --prompts 40 --runs 3        # sooner, and less sure

A recipe is a JSON document; one with nothing but {"model": "pylm"} is complete, the rest has
defaults. `import workbench as wb; print(wb.Recipe().to_json())` prints them.
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    run = commands.add_parser(
        "run",
        help="take a model through the whole path and print what became of it",
        description=RUN,
        epilog=RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("recipe", nargs="?", type=Path, metavar="RECIPE", help="a recipe, as JSON")
    run.add_argument("--model", help="instead of the recipe's: a bundled name, folder or hub id")
    run.add_argument("--alpha", type=float, help="instead of the recipe's: smoothing, 0 to 1")
    run.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    run.add_argument(
        "--out", type=Path, metavar="FOLDER", default=Path("workbench-out"),
        help="where the checkpoints go (default: %(default)s)",
    )  # fmt: skip
    run.add_argument(
        "--prompts", type=int, metavar="N",
        help="how many prompts to complete for the share that parses, drawn by the recipe's seed "
        "(default: all)",
    )  # fmt: skip
    run.add_argument(
        "--runs", type=int, metavar="N", default=7,
        help="how often to take each time (default: %(default)s)",
    )  # fmt: skip
    run.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from workbench import study
    from workbench.console import at_work, show_study

    recipe = study.resolve(arguments.recipe, arguments.model, arguments.alpha)
    with at_work():
        found = study.run(
            recipe,
            arguments.out,
            report=arguments.json,
            prompts=arguments.prompts,
            runs=arguments.runs,
        )
    show_study(found)
    if arguments.json is not None:
        print(f"Every figure: {arguments.json}")
    return 0
