"""`workbench evaluate`: quantized models beside their originals, on tasks."""

import argparse
from pathlib import Path

EVALUATE = """\
Judge quantized models beside their originals, as Q8-Chat was: on how many tasks the score rose, how
much it fell in the mean, which tasks lost more than 3 %, and what size and latency became of it. A
difference is called one only where chance is unlikely to make it (paired on the same documents).

  language models   perplexity, wikitext2, lambada_openai, arc_easy, openbookqa, boolq, and every
                    task that lm-evaluation-harness can fetch by name
  encoders          agnews_neighbour: is the nearest text of the same topic
  classifiers       sst2

--data names a folder with lambada/, arc_easy/, ... as files; without it only the pinned text is
read. --json FILE keeps every figure as soon as it is measured: the same command goes on after an
interruption, and a longer list of models measures only the new ones.
"""

EVALUATE_EXAMPLES = """\
examples:
  workbench evaluate pylm
  workbench evaluate pylm o1.json o3.json --data DATA --limit 200 --json scores.json
  workbench evaluate minilm --tasks agnews_neighbour --data DATA
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    evaluate = commands.add_parser(
        "evaluate",
        help="quantized models beside their originals, on tasks, paired and tested",
        description=EVALUATE,
        epilog=EVALUATE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate.add_argument(
        "recipes", nargs="+", metavar="RECIPE",
        help="a recipe (*.json), or a model to quantize as recipes do by default: W8A8, O3",
    )  # fmt: skip
    evaluate.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="as above")
    evaluate.add_argument(
        "--data", type=Path, metavar="FOLDER", help="where the files of tasks lie"
    )
    evaluate.add_argument(
        "--limit", type=int, metavar="N", help="documents of each task, drawn by --seed"
    )
    evaluate.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="keep every figure, and go on")
    evaluate.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables")
    evaluate.set_defaults(command=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from workbench.console import at_work, console
    from workbench.models.atomic import try_writing, write_text
    from workbench.scoreboard import judge, read_recipes, scoreboard_markdown, scoreboard_tables
    from workbench.scoreboard.tables import LEGEND, noise

    if arguments.markdown is not None:
        try_writing(arguments.markdown)

    with at_work():
        board = judge(
            read_recipes(arguments.recipes),
            arguments.tasks,
            data=arguments.data,
            limit=arguments.limit,
            seed=arguments.seed,
            report=arguments.json,
        )
    screen = console()
    screen.print(LEGEND)
    for table in scoreboard_tables(board):
        screen.print(table)
    screen.print(noise(board))
    if arguments.markdown is not None:
        write_text(arguments.markdown, scoreboard_markdown(board))
        screen.print(f"Tables: {arguments.markdown}")
    if arguments.json is not None:
        screen.print(f"Every figure: {arguments.json}")
    return 0
