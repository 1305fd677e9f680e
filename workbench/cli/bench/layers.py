"""`workbench bench layers`: one linear layer in many engines."""

import argparse
from pathlib import Path

from workbench.cli.bench.common import add_common, leave
from workbench.errors import WorkbenchError

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


def add(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
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
    add_common(layers)
    layers.set_defaults(command=_measure)


def _measure(arguments: argparse.Namespace) -> int:
    import torch

    from workbench.bench import chart, measure_layers
    from workbench.bench.layers import SHAPES
    from workbench.console import at_work, show_layers

    if arguments.chart is not None:
        chart.check(arguments.chart)
    with at_work():
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
    leave(report, arguments, chart.save_chart)
    if report.failures:
        raise WorkbenchError("\n".join(["quality is not what it must be:", *report.failures]))
    return 0
