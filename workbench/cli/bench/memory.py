"""`workbench bench memory`: bytes of a model by number type."""

import argparse


def add(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
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
    memory.set_defaults(command=_measure)


def _measure(arguments: argparse.Namespace) -> int:
    from workbench.bench import measure_memory
    from workbench.console import at_work, show_memory
    from workbench.quant.qtypes import qtypes

    with at_work():
        rows = measure_memory(arguments.models, arguments.dtypes or tuple(qtypes))
    show_memory(rows)
    return 0
