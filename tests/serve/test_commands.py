"""Finding, copying and serving the notebooks, without a browser."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from servers import eventually, free_port, listens

from workbench import serve
from workbench.errors import WorkbenchError
from workbench.serve import commands, shipped


def test_notebooks_are_found_and_copied_without_overwriting(tmp_path) -> None:
    (tmp_path / "workbench.ipynb").write_text("mine")
    folder = serve.working_copy(tmp_path)
    assert folder == tmp_path.resolve()
    assert (folder / "workbench.ipynb").read_text() == "mine"
    shipped = serve.notebooks() / "outlier_smoothing.ipynb"
    assert (folder / "outlier_smoothing.ipynb").read_bytes() == shipped.read_bytes()


def test_installed_notebooks_come_before_a_checkout(tmp_path, monkeypatch) -> None:
    package = tmp_path / "workbench"
    monkeypatch.setattr(shipped, "PACKAGE", package)
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
    with pytest.raises(WorkbenchError, match="visitors is 0"):
        serve.serve(visitors=0)
    with pytest.raises(WorkbenchError, match="memory is 499; give at least 500"):
        serve.serve(memory=499)
    with pytest.raises(WorkbenchError, match=r"no folder .*missing; name one that holds recipes"):
        serve.serve(recipes=tmp_path / "missing")
    with pytest.raises(WorkbenchError, match="no folder"):
        serve.serve(tmp_path / "missing")
    with pytest.raises(WorkbenchError, match=r"no notebook 'x\.ipynb'.*workbench\.ipynb"):
        serve.lab(tmp_path, notebook="x.ipynb")


def test_serving_asks_for_culling_and_limits_visitors(monkeypatch, tmp_path) -> None:
    asked = {}

    def run(module, *arguments, environment):
        asked.update(module=module, arguments=arguments, environment=environment)
        return 0

    monkeypatch.setattr(commands, "_run", run)
    given = {"models": ["pylm", "minilm"], "saves": tmp_path, "recipes": tmp_path}
    assert serve.serve(idle=30, threads=3, memory=900, visitors=8, **given) == 0
    assert asked["module"] == "workbench.serve.app"
    assert "--AppServer.memory=900" in asked["arguments"]
    assert "--AppServer.visitors=8" in asked["arguments"]
    assert "--AppServer.preheat=True" in asked["arguments"]
    assert "--MappingKernelManager.cull_connected=True" in asked["arguments"]
    assert "--MappingKernelManager.cull_idle_timeout=30" in asked["arguments"]
    assert "--MappingKernelManager.cull_interval=30" in asked["arguments"]
    assert "--VoilaConfiguration.strip_sources=True" in asked["arguments"]
    assert asked["environment"] == {
        "WORKBENCH_SERVED": "1",
        "WORKBENCH_MODELS": "pylm,minilm",
        "OMP_NUM_THREADS": "3",
        "WORKBENCH_RECIPES": str(tmp_path.resolve()),
        "WORKBENCH_SAVES": str(tmp_path.resolve()),
    }


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_terminating_the_command_ends_the_server(tmp_path) -> None:
    port = free_port()
    (tmp_path / "fakeserver.py").write_text(
        "import socket, time\n"
        f"server = socket.create_server(('127.0.0.1', {port}))\n"
        "time.sleep(120)\n"
    )
    script = "from workbench.serve.commands import _run; raise SystemExit(_run('fakeserver'))"
    root = Path(serve.__file__).parents[2]
    path = os.pathsep.join([str(tmp_path), str(root)])
    command = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}
    )
    try:
        assert eventually(lambda: listens(port))
        command.send_signal(signal.SIGTERM)
        command.wait(30)
        assert eventually(lambda: not listens(port))
    finally:
        command.kill()
