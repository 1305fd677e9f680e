"""Finding, copying and serving the notebooks, without a browser."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from workbench import serve
from workbench.errors import WorkbenchError


def test_notebooks_are_found_and_copied_without_overwriting(tmp_path) -> None:
    (tmp_path / "workbench.ipynb").write_text("mine")
    folder = serve.working_copy(tmp_path)
    assert folder == tmp_path.resolve()
    assert (folder / "workbench.ipynb").read_text() == "mine"
    shipped = serve.notebooks() / "outlier_smoothing.ipynb"
    assert (folder / "outlier_smoothing.ipynb").read_bytes() == shipped.read_bytes()


def test_installed_notebooks_come_before_a_checkout(tmp_path, monkeypatch) -> None:
    package = tmp_path / "workbench"
    monkeypatch.setattr(serve, "PACKAGE", package)
    with pytest.raises(WorkbenchError, match="no notebooks beside"):
        serve.notebooks()
    for folder in (tmp_path / "notebooks", package / "notebooks"):
        folder.mkdir(parents=True)
        (folder / "workbench.ipynb").touch()
        assert serve.notebooks() == folder


def test_refusals_name_what_was_found(tmp_path) -> None:
    with pytest.raises(WorkbenchError, match="idle is 0"):
        serve.serve(idle=0)
    with pytest.raises(WorkbenchError, match="threads is 0"):
        serve.serve(threads=0)
    with pytest.raises(WorkbenchError, match="no folder"):
        serve.serve(tmp_path / "missing")
    with pytest.raises(WorkbenchError, match=r"no notebook 'x\.ipynb'.*workbench\.ipynb"):
        serve.lab(tmp_path, notebook="x.ipynb")


def test_serving_asks_for_culling_and_limits_visitors(monkeypatch, tmp_path) -> None:
    asked = {}

    def run(module, *arguments, environment):
        asked.update(module=module, arguments=arguments, environment=environment)
        return 0

    monkeypatch.setattr(serve, "_run", run)
    assert serve.serve(idle=30, threads=3, models=["pylm", "minilm"], saves=tmp_path) == 0
    assert asked["module"] == "voila"
    assert "--MappingKernelManager.cull_idle_timeout=30" in asked["arguments"]
    assert "--MappingKernelManager.cull_interval=30" in asked["arguments"]
    assert "--VoilaConfiguration.strip_sources=True" in asked["arguments"]
    assert asked["environment"] == {
        "WORKBENCH_SERVED": "1",
        "WORKBENCH_MODELS": "pylm,minilm",
        "OMP_NUM_THREADS": "3",
        "WORKBENCH_SAVES": str(tmp_path.resolve()),
    }


def test_kernels_of_visitors_compute_on_as_many_threads_as_asked(tmp_path) -> None:
    pytest.importorskip("voila", reason="needs the extra [lab]")
    asked = min(2, os.cpu_count() or 1)  # torch takes no more threads than there are cores
    notebook = {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": None,
                "id": "only",
                "metadata": {},
                "outputs": [],
                "source": "import torch\nprint('threads:', torch.get_num_threads())",
            }
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (tmp_path / "count.ipynb").write_text(json.dumps(notebook))
    port = _free_port()
    command = [sys.executable, "-m", "workbench.cli", "serve", str(tmp_path), "--port", str(port)]
    command += ["--threads", str(asked)]
    server = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert _eventually(lambda: _listens(port))
        page = f"http://127.0.0.1:{port}/voila/render/count.ipynb"
        with urllib.request.urlopen(page, timeout=60) as answer:
            assert f"threads: {asked}\n" in answer.read().decode()
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_terminating_the_command_ends_the_server(tmp_path) -> None:
    port = _free_port()
    (tmp_path / "fakeserver.py").write_text(
        "import socket, time\n"
        f"server = socket.create_server(('127.0.0.1', {port}))\n"
        "time.sleep(120)\n"
    )
    script = "from workbench.serve import _run; raise SystemExit(_run('fakeserver'))"
    root = Path(serve.__file__).parents[1]
    path = os.pathsep.join([str(tmp_path), str(root)])
    command = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}
    )
    try:
        assert _eventually(lambda: _listens(port))
        command.send_signal(signal.SIGTERM)
        command.wait(30)
        assert _eventually(lambda: not _listens(port))
    finally:
        command.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _eventually(condition) -> bool:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()
