"""The command line: `workbench run | doctor | lab | serve | bench`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from workbench.errors import WorkbenchError

LAB = ("ipywidgets", "anywidget", "plotly", "jupyterlab", "voila")

DESCRIPTION = """\
See which activation channels break 8-bit arithmetic, smooth them, quantize, compare, take it away.

  workbench run                                the bundled model through the whole path, as a table
  workbench run --model minilm --alpha 0.9     the same for a sentence encoder
  workbench run recipe.json                    a recipe of your own (the notebook writes them)
  workbench lab                                JupyterLab on the workbench notebook
  workbench serve                              the same notebook as an app, under Voila
  workbench bench memory                       memory of a model by number type, peak included
  workbench doctor                             what this machine can do, and what it cannot and why
"""

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

A recipe is a JSON document; one with nothing but {"model": "pylm"} is complete, the rest has
defaults. `import workbench as wb; print(wb.Recipe().to_json())` prints them.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 2 where the request was refused, 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("workbench: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "workbench", description=DESCRIPTION, formatter_class=formatter
    )
    parser.add_argument("--version", action="version", version=f"workbench {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="take a model through the whole path and print what became of it",
        description=RUN,
        epilog=RUN_EXAMPLES,
        formatter_class=formatter,
    )
    run.add_argument("recipe", nargs="?", type=Path, metavar="RECIPE", help="a recipe, as JSON")
    run.add_argument("--model", help="instead of the recipe's: a bundled name, folder or hub id")
    run.add_argument("--alpha", type=float, help="instead of the recipe's: smoothing, 0 to 1")
    run.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    run.add_argument(
        "--out", type=Path, metavar="FOLDER", default=Path("workbench-out"),
        help="where the checkpoints go (default: %(default)s)",
    )  # fmt: skip
    run.set_defaults(command=_run)

    doctor = commands.add_parser("doctor", help="show what this machine can do, and why not more")
    doctor.set_defaults(command=_doctor)

    lab = commands.add_parser("lab", help="open JupyterLab on the workbench notebook")
    lab.add_argument(
        "folder", nargs="?", type=Path, help="where to work (default: ./notebooks, made if missing)"
    )
    lab.add_argument("--port", type=int, default=8888, help="default: %(default)s")
    lab.add_argument("--no-browser", action="store_true", help="print the address only")
    lab.set_defaults(command=_lab)

    serve = commands.add_parser("serve", help="serve the notebooks as apps, under Voila")
    serve.add_argument(
        "folder", nargs="?", type=Path, help="notebooks to serve (default: the ones installed)"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    serve.add_argument("--port", type=int, default=8866, help="default: %(default)s")
    serve.add_argument(
        "--idle", type=int, default=600, metavar="SECONDS",
        help="end a visitor's kernel after so long without a word (default: %(default)s)",
    )  # fmt: skip
    serve.add_argument(
        "--threads", type=int, default=1, metavar="N",
        help="cores that each visitor's kernel computes on (default: %(default)s); give at most "
        "cores / visitors, for visitors who compete for cores slow each other down many times",
    )  # fmt: skip
    serve.add_argument(
        "--models", nargs="+", default=[], metavar="NAME",
        help="what a visitor may load (default: the bundled models)",
    )  # fmt: skip
    serve.add_argument(
        "--saves", type=Path, metavar="FOLDER", help="let visitors save, into FOLDER"
    )
    serve.set_defaults(command=_serve)

    bench = commands.add_parser("bench", help="measure what takes long")
    kinds = bench.add_subparsers(title="benchmarks", required=True, metavar="WHAT")
    memory = kinds.add_parser(
        "memory",
        help="bytes of a model before, while and after it is frozen, by number type",
        description="Quantize the weights of each model to each number type in a process of its "
        "own; print its bytes before and after, and the peak that freezing took.",
    )
    memory.add_argument(
        "models", nargs="*", default=["pylm"], metavar="MODEL",
        help="bundled names, folders, hub ids, or llama-1b, a random Llama of a billion float32 "
        "parameters, which takes 5 GB (default: pylm)",
    )  # fmt: skip
    memory.add_argument(
        "--dtypes", nargs="+", default=None, metavar="DTYPE",
        help="number types such as int4 or float8_e4m3fn (default: all)",
    )  # fmt: skip
    memory.set_defaults(command=_bench_memory)
    return parser


def _version() -> str:
    try:
        return version("quantization-workbench")
    except PackageNotFoundError:
        return "(not installed)"


def _run(arguments: argparse.Namespace) -> int:
    from transformers.utils import logging

    from workbench import study
    from workbench.console import Bars, show_study
    from workbench.progress import reporting

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    recipe = study.resolve(arguments.recipe, arguments.model, arguments.alpha)
    with Bars() as bars, reporting(bars):
        found = study.run(recipe, arguments.out, report=arguments.json)
    show_study(found)
    if arguments.json is not None:
        print(f"Every figure: {arguments.json}")
    return 0


def _doctor(_arguments: argparse.Namespace) -> int:
    from workbench.console import show_machine

    show_machine()
    return 0


def _bench_memory(arguments: argparse.Namespace) -> int:
    from workbench.bench import measure_memory
    from workbench.console import Bars, show_memory
    from workbench.progress import reporting
    from workbench.quant.qtypes import qtypes

    with Bars() as bars, reporting(bars):
        rows = measure_memory(arguments.models, arguments.dtypes or tuple(qtypes))
    show_memory(rows)
    return 0


def _lab(arguments: argparse.Namespace) -> int:
    _require_lab()
    from workbench import serve

    return serve.lab(arguments.folder, port=arguments.port, browser=not arguments.no_browser)


def _serve(arguments: argparse.Namespace) -> int:
    _require_lab()
    from workbench import serve

    return serve.serve(
        arguments.folder,
        host=arguments.host,
        port=arguments.port,
        idle=arguments.idle,
        threads=arguments.threads,
        models=arguments.models,
        saves=arguments.saves,
    )


def _require_lab() -> None:
    missing = [name for name in LAB if find_spec(name) is None]
    if missing:
        raise WorkbenchError(
            f"This needs the extra [lab], of which {', '.join(missing)} cannot be found; "
            "run: pip install 'quantization-workbench[lab]'"
        )


if __name__ == "__main__":
    sys.exit(main())
