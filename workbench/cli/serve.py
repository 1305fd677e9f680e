"""`workbench serve`: the notebooks as apps."""

import argparse
from pathlib import Path

from workbench.cli.extra import require_lab


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
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


def _serve(arguments: argparse.Namespace) -> int:
    require_lab()
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
