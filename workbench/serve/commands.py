"""The commands: start a server with the options that are safe, and stay until it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.serve.shipped import notebooks, working_copy

CULL_EVERY = 60  # seconds between two looks for idle kernels


def lab(
    folder: Path | None = None,
    *,
    notebook: str = "workbench.ipynb",
    port: int = 8888,
    browser: bool = True,
    options: Sequence[str] = (),
) -> int:
    """Open JupyterLab on `notebook` and stay until it ends; returns its exit status.

    `options` are handed to JupyterLab as they are.
    """
    _require("jupyterlab")
    root = working_copy(folder)
    if not (root / notebook).is_file():
        found = ", ".join(sorted(path.name for path in root.glob("*.ipynb")))
        raise WorkbenchError(f"no notebook {notebook!r} in {root}; there are: {found or 'none'}.")
    return _run(
        "jupyterlab",
        f"--port={port}",
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url=/lab/tree/{notebook}",
        *([] if browser else ["--no-browser"]),
        *options,
    )


def serve(
    folder: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8866,
    idle: int = 600,
    threads: int = 1,
    memory: int = 2000,
    visitors: int = 20,
    preheat: bool = True,
    models: Sequence[str] = (),
    recipes: Path | None = None,
    saves: Path | None = None,
    browser: bool = False,
    options: Sequence[str] = (),
) -> int:
    """Serve every notebook of `folder` as an app and stay until it ends; returns the exit status.

    One kernel, so one model, for each of at most `visitors`; one idle for `idle` seconds ends. It
    computes on `threads` cores (visitors who compete for cores slow each other down many times) and
    may allocate `memory` MB (on Linux). With `preheat` (on Linux) it is forked from a process that
    has imported everything and loaded the models already. A visitor may load the `models` named
    here (default: the bundled ones) and the recipes in the folder `recipes`, by name, and never
    supplies a path; saving is offered only into `saves`. `options` are handed to Voila as they are.
    """
    _require("voila")
    _at_least(1, idle=idle, threads=threads, visitors=visitors)
    _at_least(500, memory=memory)  # the imports alone take about 300
    root = notebooks() if folder is None else _folder(folder, "that holds notebooks")
    environment = {
        "WORKBENCH_SERVED": "1",
        "WORKBENCH_MODELS": ",".join(models),
        "OMP_NUM_THREADS": str(threads),
    }
    if recipes is not None:
        environment["WORKBENCH_RECIPES"] = str(_folder(recipes, "that holds recipes"))
    if saves is not None:
        environment["WORKBENCH_SAVES"] = str(Path(saves).resolve())
    return _run(
        "workbench.serve.app",
        str(root),
        f"--Voila.ip={host}",
        f"--port={port}",
        f"--AppServer.memory={memory}",
        f"--AppServer.visitors={visitors}",
        f"--AppServer.preheat={preheat}",
        "--VoilaConfiguration.strip_sources=True",
        "--VoilaConfiguration.show_tracebacks=False",
        f"--MappingKernelManager.cull_interval={min(CULL_EVERY, idle)}",
        f"--MappingKernelManager.cull_idle_timeout={idle}",
        "--MappingKernelManager.cull_connected=True",  # a forgotten tab is idle, too
        *([] if browser else ["--no-browser"]),
        *options,
        environment=environment,
    )


def _require(module: str) -> None:
    if find_spec(module) is None:
        raise WorkbenchError(
            f"{module} is not installed; run `pip install 'quantization-workbench[lab]'`."
        )


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise WorkbenchError(f"{name} is {value}; give at least {least}.")


def _folder(path: Path, kind: str) -> Path:
    found = Path(path).resolve()
    if not found.is_dir():
        raise WorkbenchError(f"no folder {found}; name one {kind}.")
    return found


def _run(module: str, *arguments: str, environment: dict[str, str] | None = None) -> int:
    """Run a server until it ends; Ctrl-C and a request to terminate reach it, and it cleans up."""
    command = [sys.executable, "-m", module, *arguments]
    surroundings = {**os.environ, **(environment or {})}
    with subprocess.Popen(command, env=surroundings) as server:  # noqa: S603 - our own arguments
        before = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            while True:
                try:
                    return server.wait()
                except KeyboardInterrupt:  # the terminal sent it to the server as well
                    continue
        finally:
            signal.signal(signal.SIGTERM, before)
            server.terminate()
