"""`workbench serve`: the notebooks as apps."""

import argparse
from pathlib import Path

from workbench.cli.extra import require_lab

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


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    serve = commands.add_parser(
        "serve",
        help="serve the notebooks as apps, under Voila",
        description=SERVE,
        epilog=SERVE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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


def _serve(arguments: argparse.Namespace) -> int:
    require_lab()
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
