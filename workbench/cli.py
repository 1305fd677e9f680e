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
  workbench bench layers --json figures.json   one layer in many engines: time by bits, and quality
  workbench bench models minilm                whole models in many engines
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

SERVE = """\
Serve the notebooks as apps. Each visitor gets a kernel, and so a model, of their own; nobody sees
another's. Visitors choose among the models and recipes that you name, never supply a path and
cannot run code of their own. The address of a page may say what to start with:

  /voila/render/workbench.ipynb?model=minilm&alpha=0.9&scheme=o1&theme=dark
  /voila/render/workbench.ipynb?recipe=NAME-OR-LINK

/healthz tells a monitor how the server is, and starts nothing. (A page itself starts a kernel.)
Put a proxy with TLS and, if the pages are not for all, a login in front of it.
"""

SERVE_EXAMPLES = """\
examples:
  workbench serve
  workbench serve --models pylm-outliers minilm --recipes lecture/ --visitors 8 --memory 1000
"""

LAYERS = """\
Time one linear layer, x W^T + b, in every engine and scheme that runs here, in turns (A, B, C, A,
B, C, ...), so that whatever disturbs the machine disturbs all alike. w8a8 has int8 weights and int8
activations, scaled per token as they come; w8a8-static a calibrated scale instead; w4 and w2 have
weights in groups and float activations; w4a8 and w2a8 int8 activations.

Warm weights lie in the caches from the call before. Cold ones come from memory, as when a model
larger than the caches decodes: copies of the layer, together four times the last-level cache, take
turns. Every row says how much of the float result survives (SQNR, dB); a row of ours that is not
within 0.5 dB of what its arithmetic gives fails the benchmark.
"""

LAYERS_EXAMPLES = """\
examples:
  workbench bench layers
  workbench bench layers --json layers.json --chart layers.html
  workbench bench layers --shapes 1x4096x4096 --cold --threads 1 --seconds 30
  workbench bench layers --engines 'torch fp32' 'torch bf16' workbench openvino

Close everything else first: a second busy process makes every figure with all threads noise.
pip install 'quantization-workbench[peers]' brings the other engines.
"""

MODELS = """\
Time whole models in every engine that runs here, in turns: encoders forward over 128 tokens,
language models over a prompt of 256 tokens (prefill) and then one token with the cache it left
(decode), all at batch 1. Quality is the mean cosine of the hidden states with those of float32, or
the KL divergence of the next token's distribution from float32's.

  bert-base      a random BERT-base                       minilm   the real sentence encoder
  llama-8x2048   a random Llama, 2048 x 5632 x 8 layers   pylm     the bundled language model

All variants of a model are in memory at once: llama-8x2048 takes about 12 GB with every engine.
"""

MODELS_EXAMPLES = """\
examples:
  workbench bench models minilm bert-base --compile
  workbench bench models llama-8x2048 --engines 'torch fp32' 'torch bf16' workbench
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

    serve = commands.add_parser(
        "serve",
        help="serve the notebooks as apps, under Voila",
        description=SERVE,
        epilog=SERVE_EXAMPLES,
        formatter_class=formatter,
    )
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
        "--recipes", type=Path, metavar="FOLDER",
        help="recipes that a link may name: .../workbench.ipynb?recipe=NAME is FOLDER/NAME.json",
    )  # fmt: skip
    serve.add_argument(
        "--memory", type=int, default=2000, metavar="MB",
        help="what a visitor's kernel may allocate, on Linux (default: %(default)s); work that "
        "needs more fails with a sentence, and the page lives on",
    )  # fmt: skip
    serve.add_argument(
        "--visitors", type=int, default=20, metavar="N",
        help="kernels at once (default: %(default)s); whoever comes then is asked to wait",
    )  # fmt: skip
    serve.add_argument(
        "--no-preheat", action="store_true",
        help="start each kernel from nothing, instead of (on Linux) forking it from a process that "
        "has the models loaded: saves 600 MB of memory, costs each visitor 10 s and 500 MB",
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
    _add_layers(kinds)
    _add_models(kinds)
    return parser


def _add_layers(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    layers = kinds.add_parser(
        "layers",
        help="one linear layer in many engines: time by bits, cold and warm, and quality",
        description=LAYERS,
        epilog=LAYERS_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    layers.add_argument(
        "--shapes", nargs="+", metavar="MxKxN",
        help="rows x inputs x outputs (default: 512x4096x4096 128x768x3072 1x4096x4096)",
    )  # fmt: skip
    layers.add_argument(
        "--bits", nargs="+", type=int, default=[8, 4, 2], help="of a weight: 8, 4, 2 (default: all)"
    )
    layers.add_argument(
        "--group-size", type=int, default=128, metavar="N",
        help="inputs to one scale, for 4 and 2 bits (default: %(default)s)",
    )  # fmt: skip
    layers.add_argument(
        "--dtype", choices=["bfloat16", "float32"], default="bfloat16",
        help="of inputs and outputs, where an engine has the choice (default: %(default)s)",
    )  # fmt: skip
    state = layers.add_mutually_exclusive_group()
    state.add_argument(
        "--cold", action="store_const", const=True, default=None,
        help="weights from memory only (default: warm, and cold too for up to 8 rows)",
    )  # fmt: skip
    state.add_argument(
        "--warm", action="store_const", const=False, dest="cold", help="weights from caches only"
    )
    layers.add_argument(
        "--seconds", type=float, default=150, metavar="S",
        help="for timing, shared by all cases; building comes on top (default: %(default)s)",
    )  # fmt: skip
    layers.add_argument(
        "--chart", type=Path, metavar="FILE", help="also draw time by bits: an .svg or .html file"
    )
    _add_common(layers)
    layers.set_defaults(command=_bench_layers)


def _add_models(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
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
        help="encoders through torch.compile too, where an engine is a torch module",
    )  # fmt: skip
    models.add_argument(
        "--seconds", type=float, default=20, metavar="S",
        help="for timing each model, phase and number of threads (default: %(default)s)",
    )  # fmt: skip
    _add_common(models)
    models.set_defaults(command=_bench_models)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[], metavar="N",
        help="how many, each measured on its own (default: 1 and all cores)",
    )  # fmt: skip
    parser.add_argument(
        "--engines", nargs="+", default=[], metavar="NAME",
        help="such as 'torch fp32' workbench openvino (default: all that are installed)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")


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


def _bench_layers(arguments: argparse.Namespace) -> int:
    import torch

    from workbench.bench import chart, measure_layers
    from workbench.bench.layers import SHAPES
    from workbench.console import Bars, show_layers
    from workbench.progress import reporting

    if arguments.chart is not None:
        chart.check(arguments.chart)
    with Bars() as bars, reporting(bars):
        report = measure_layers(
            arguments.shapes or SHAPES,
            arguments.bits,
            arguments.group_size,
            arguments.threads,
            getattr(torch, arguments.dtype),
            arguments.engines,
            arguments.cold,
            arguments.seconds,
        )
    show_layers(report)
    if arguments.json is not None:
        report.save(arguments.json)
        print(f"Every figure: {arguments.json}")
    if arguments.chart is not None:
        chart.save_chart(report, arguments.chart)
        print(f"Picture: {arguments.chart}")
    if report.failures:
        raise WorkbenchError("\n".join(["quality is not what it must be:", *report.failures]))
    return 0


def _bench_models(arguments: argparse.Namespace) -> int:
    from transformers.utils import logging

    from workbench.bench import measure_models
    from workbench.console import Bars, show_models
    from workbench.progress import reporting

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with Bars() as bars, reporting(bars):
        report = measure_models(
            arguments.models,
            arguments.threads,
            arguments.engines,
            arguments.bits,
            arguments.compile,
            arguments.seconds,
        )
    show_models(report)
    if arguments.json is not None:
        report.save(arguments.json)
        print(f"Every figure: {arguments.json}")
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
        memory=arguments.memory,
        visitors=arguments.visitors,
        preheat=not arguments.no_preheat,
        models=arguments.models,
        recipes=arguments.recipes,
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
