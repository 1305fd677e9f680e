"""`workbench bench WHAT`: measurements that take long."""

import argparse

from workbench.cli.bench import boolq, layers, memory, models, quality, throughput

BENCHMARKS = (memory, layers, models, quality, throughput, boolq)


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser and one for each benchmark."""
    bench = commands.add_parser("bench", help="measure what takes long")
    kinds = bench.add_subparsers(title="benchmarks", required=True, metavar="WHAT")
    for benchmark in BENCHMARKS:
        benchmark.add(kinds)
