"""Open the notebooks: JupyterLab for their owner, Voila for visitors."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from workbench.errors import WorkbenchError

PACKAGE = Path(__file__).parent
CULL_EVERY = 60  # seconds between two looks for idle kernels


def notebooks() -> Path:
    """Find the shipped notebooks: inside an installed package, or beside it in a checkout."""
    for folder in (PACKAGE / "notebooks", PACKAGE.parent / "notebooks"):
        if (folder / "workbench.ipynb").is_file():
            return folder
    raise WorkbenchError(
        f"no notebooks beside {PACKAGE}; reinstall quantization-workbench, or name a folder."
    )


def working_copy(folder: Path | None = None) -> Path:
    """Give a folder whose notebooks may be edited: `folder`, or `notebooks` in the current one.

    Notebooks that are missing there are copied from the installation; those present are left alone.
    """
    source = notebooks()
    target = Path("notebooks") if folder is None else Path(folder)
    if target.resolve() != source.resolve():
        target.mkdir(parents=True, exist_ok=True)
        for notebook in source.glob("*.ipynb"):
            if not (target / notebook.name).exists():
                shutil.copyfile(notebook, target / notebook.name)
    return target.resolve()


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
    models: Sequence[str] = (),
    saves: Path | None = None,
    browser: bool = False,
    options: Sequence[str] = (),
) -> int:
    """Serve every notebook of `folder` as an app and stay until it ends; returns the exit status.

    One kernel, so one model, for each visitor; one idle for `idle` seconds ends. It computes on
    `threads` cores: visitors who compete for cores slow each other down many times. A visitor may
    load the `models` named here (default: the bundled ones) and never supplies a path; saving is
    offered only into `saves`. `options` are handed to Voila as they are.
    """
    _require("voila")
    if idle < 1:
        raise WorkbenchError(f"idle is {idle}; give at least 1 second, after which a kernel ends.")
    if threads < 1:
        raise WorkbenchError(f"threads is {threads}; give each kernel at least 1.")
    root = notebooks() if folder is None else Path(folder).resolve()
    if not root.is_dir():
        raise WorkbenchError(f"no folder {root}; name one that holds notebooks.")
    environment = {
        "WORKBENCH_SERVED": "1",
        "WORKBENCH_MODELS": ",".join(models),
        "OMP_NUM_THREADS": str(threads),
    }
    if saves is not None:
        environment["WORKBENCH_SAVES"] = str(Path(saves).resolve())
    return _run(
        "voila",
        str(root),
        f"--Voila.ip={host}",
        f"--port={port}",
        "--VoilaConfiguration.strip_sources=True",
        "--VoilaConfiguration.show_tracebacks=False",
        f"--MappingKernelManager.cull_interval={min(CULL_EVERY, idle)}",
        f"--MappingKernelManager.cull_idle_timeout={idle}",
        *([] if browser else ["--no-browser"]),
        *options,
        environment=environment,
    )


def _require(module: str) -> None:
    if find_spec(module) is None:
        raise WorkbenchError(
            f"{module} is not installed; run `pip install 'quantization-workbench[lab]'`."
        )


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
