"""The server of apps over HTTP: health, limits, headers, and kernels that end with it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import psutil
import pytest
from servers import eventually, free_port, listens

pytest.importorskip("voila", reason="needs the extra [lab]")
pytest.importorskip("anywidget", reason="needs the extra [lab]")

MEMORY = 1200
COUNT = """\
import os, resource, torch
print('threads:', torch.get_num_threads())
print('allowed:', resource.getrlimit(resource.RLIMIT_DATA)[0])
print('asked:', os.environ['QUERY_STRING'])
from workbench.session.shelf import shelf
print('ready:', *shelf)
try:
    torch.empty(10**10)
except RuntimeError as problem:
    from workbench.errors import in_words
    print('refused:', in_words(problem))
"""


END = "import os\nif os.environ['QUERY_STRING'] == '{}': os._exit(3)\n"


def notebook(source: str) -> str:
    cell = {"cell_type": "code", "execution_count": None, "id": "only", "metadata": {}}
    return json.dumps(
        {
            "cells": [{**cell, "outputs": [], "source": source}],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


def get(address: str) -> tuple[int, str, dict[str, str]]:
    try:
        with urllib.request.urlopen(address, timeout=120) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode(), dict(refusal.headers)


def kernels(server: psutil.Process) -> list[psutil.Process]:
    """What the server's nursery has forked."""
    return [kernel for nursery in server.children() for kernel in nursery.children()]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[str, subprocess.Popen]]:
    """`workbench serve` with room for two, on a notebook that says what it finds."""
    folder = tmp_path_factory.mktemp("apps")
    (folder / "count.ipynb").write_text(notebook(COUNT))
    port = free_port()
    command = [sys.executable, "-m", "workbench.cli", "serve", str(folder), "--port", str(port)]
    command += ["--threads", "2", "--memory", str(MEMORY), "--visitors", "2", "--models", "pylm"]
    running = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert eventually(lambda: listens(port))
        yield f"http://127.0.0.1:{port}", running
    finally:
        running.terminate()
        running.wait(30)


@pytest.mark.skipif(sys.platform != "linux", reason="forking and capping are Linux's")
def test_server_from_first_visitor_to_the_end(server) -> None:
    address, running = server
    status, body, headers = get(f"{address}/healthz")
    health = json.loads(body)
    assert (status, health["status"], health["kernels"]) == (200, "ok", 0)
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert eventually(lambda: json.loads(get(f"{address}/healthz")[1])["preheated"], 120)
    assert json.loads(get(f"{address}/healthz")[1])["kernels"] == 0  # asking starts none

    page = f"{address}/voila/render/count.ipynb"
    status, body, _ = get(f"{page}?theme=%3Cb%3E")
    assert (status, "There is no theme &#x27;&lt;b&gt;&#x27;" in body) == (400, True)

    # A kernel is forked with the limits, the models and the address of its own visitor.
    for query in ("who=1", "who=2"):
        status, body, _ = get(f"{page}?{query}")
        assert status == 200
        assert f"threads: {min(2, os.cpu_count() or 1)}\n" in body
        assert f"allowed: {MEMORY * 1_000_000}\n" in body
        assert "ready: pylm\n" in body
        assert "refused: there is not enough memory" in body
        assert "googleapis" not in body
        assert "jsdelivr" not in body
        assert f"asked: {query}\n" in body

    # The third is asked to wait, and the monitor told.
    status, body, headers = get(page)
    assert (status, headers["Retry-After"]) == (503, "60")
    assert "2 visitors are here" in body
    status, body, _ = get(f"{address}/healthz")
    assert (status, json.loads(body)["status"]) == (503, "full")

    # A kernel that dies makes room; those that live end with the server, even a killed one.
    (application,) = psutil.Process(running.pid).children()
    first, second = kernels(application)
    first.kill()
    assert eventually(lambda: get(f"{address}/healthz")[0] == 200, 20)
    application.send_signal(signal.SIGKILL)
    assert eventually(lambda: not second.is_running(), 20)


@pytest.mark.parametrize("when", ["starting", "running"])
def test_a_page_whose_kernel_ends_early_says_so_and_what_to_do(mortal, when) -> None:
    began = time.monotonic()
    status, body, _ = get(f"{mortal}/voila/render/count.ipynb?{when}")
    assert time.monotonic() - began < 30  # it took about five; before, it never ended
    assert status == 200
    assert "ended before the page was ready" in body
    assert f"needed more memory than the {MEMORY} MB it may have" in body
    assert "Try again" in body
    assert "voila_finish()" not in body


@pytest.fixture(scope="module")
def mortal(tmp_path_factory) -> Iterator[str]:
    """A server whose kernels end while they start, or in their first cell, if asked to."""
    folder = tmp_path_factory.mktemp("mortal")
    (folder / "count.ipynb").write_text(notebook(END.format("running")))
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "end.py").write_text(END.format("starting"))
    port = free_port()
    command = [sys.executable, "-m", "workbench.cli", "serve", str(folder), "--port", str(port)]
    command += ["--memory", str(MEMORY), "--no-preheat"]
    environment = {**os.environ, "IPYTHONDIR": str(folder / "ipython")}
    running = subprocess.Popen(command, env=environment)
    try:
        assert eventually(lambda: listens(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(30)
