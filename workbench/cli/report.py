"""`workbench report`: one page to hand over, and the same as JSON."""

import argparse
from pathlib import Path

REPORT = """\
Measure a quantized model beside its original in fp32 and bf16, and write one HTML file that needs
no other: quality with intervals and verdicts, size, speed, the error of each layer, outliers,
recipe, plan, machine, versions, and how to make it again. --json writes the same as data, from
which the page can be made anew without measuring.
"""

REPORT_EXAMPLES = """\
examples:
  workbench report pylm --out report.html
  workbench report out/int8 --out report.html --json report.json --data DATA --limit 200
  workbench report report.json --out report.html
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    report = commands.add_parser(
        "report",
        help="a quantized model beside its original, as one HTML page and as JSON",
        description=REPORT,
        epilog=REPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_argument(
        "source", metavar="CHECKPOINT_OR_RECIPE",
        help="a folder that a session saved, a recipe (*.json), a model to quantize as recipes do "
        "by default, or the JSON of a report",
    )  # fmt: skip
    report.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page, *.html")
    report.add_argument("--json", type=Path, metavar="FILE", help="also the same as JSON")
    report.add_argument(
        "--tasks", nargs="+", default=[], metavar="TASK", help="as of `workbench evaluate`"
    )
    report.add_argument("--data", type=Path, metavar="FOLDER", help="where the files of tasks lie")
    report.add_argument(
        "--limit", type=int, metavar="N", help="documents of each task, drawn by --seed"
    )
    report.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    report.add_argument(
        "--scores", type=Path, metavar="FILE",
        help="what `workbench evaluate --json` kept: its figures are not measured again",
    )  # fmt: skip
    report.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> int:
    from workbench.console import at_work
    from workbench.models.atomic import try_writing
    from workbench.report import Report, report, save_page

    targets = [path for path in (arguments.out, arguments.json) if path is not None]
    for path in targets:
        try_writing(path)  # it is told before minutes of work
    if Report.is_one(Path(arguments.source)):
        made = Report.load(arguments.source)
    else:
        with at_work():
            made = report(
                arguments.source,
                arguments.tasks,
                data=arguments.data,
                limit=arguments.limit,
                seed=arguments.seed,
                scores=arguments.scores,
            )
    if arguments.json is not None:
        made.save(arguments.json)
        print(f"Every figure: {arguments.json}")
    save_page(made, arguments.out)
    print(f"Report: {arguments.out}")
    return 0
