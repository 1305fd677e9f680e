"""A real Chromium and the real servers, as the commands start them."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for drawn.py, expected.py and bare.py, shared by the tests
sys.path.insert(0, str(HERE.parent / "widgets"))  # for made.py

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SETTINGS = {
    "themes": {"theme": "JupyterLab Dark"},
    "notification": {"fetchNews": "false", "checkForUpdates": False},  # asks nothing, calls nobody
}


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """The browser, shared by all tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, from [test]")
    for module in ("anywidget", "jupyterlab", "voila"):
        pytest.importorskip(module, reason="needs the extra [lab]")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def new_page(chromium, pictures) -> Iterator[Callable[[str], "Page"]]:
    """Open fresh tall pages by name; an uncaught exception in their scripts is a failure."""
    opened, wrong = {}, []

    def open_page(name: str) -> "Page":
        page = opened[name] = chromium.new_page(viewport={"width": 1280, "height": 2200})
        page.set_default_timeout(180_000)
        page.on("pageerror", lambda error: wrong.append(f"{name}: {error}"))
        return page

    yield open_page
    for name, page in opened.items():
        page.screenshot(path=pictures / f"last-{name}.png")
        page.close()
    # anywidget says this of a model not ready within two seconds, and draws it all the same.
    slow = ("Canceled", "Failed to initialize model")
    assert [text for text in wrong if not any(known in text for known in slow)] == []


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Where screenshots go: WORKBENCH_PICTURES, or a temporary folder.

    Those of the README, named as in `docs/pictures`, are copied from there.
    """
    folder = os.environ.get("WORKBENCH_PICTURES")
    made = Path(folder) if folder else tmp_path_factory.mktemp("pictures")
    made.mkdir(parents=True, exist_ok=True)
    return made


@pytest.fixture(scope="session")
def _voila() -> Iterator[tuple[str, subprocess.Popen]]:
    with _server("serve", "browser=False, options=['--Voila.log_level=ERROR']") as started:
        yield started


@pytest.fixture(scope="session")
def voila(_voila) -> str:
    """Address of `workbench serve` on the shipped notebooks."""
    return _voila[0]


@pytest.fixture(scope="session")
def address(voila) -> str:
    """Address of that server, once it has preheated its models."""
    from served import eventually, health

    assert eventually(lambda: health(voila)["preheated"], 300)
    return voila


@pytest.fixture
def cold_voila() -> Iterator[str]:
    """Address of a server whose kernels start from nothing."""
    arguments = "browser=False, preheat=False, options=['--Voila.log_level=ERROR']"
    with _server("serve", arguments) as (address, _):
        yield address


@pytest.fixture
def visit(chromium, address) -> Iterator[Callable[..., tuple["Page", float]]]:
    """Open a page as a visitor of one's own; gives it and the seconds until it was live."""
    from drawn import go
    from served import LIVE

    opened = []

    def open_page(
        path: str = "workbench.ipynb", live: str | None = LIVE, before: str = ""
    ) -> tuple["Page", float]:
        """`before` is a script that the page runs before its own."""
        context = chromium.new_context(viewport={"width": 1366, "height": 900})
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(180_000)
        page.add_init_script(before)
        started = time.monotonic()
        page.goto(f"{address}/voila/render/{path}", wait_until="commit")
        if live:
            page.wait_for_selector(live, state="attached")
        seconds = time.monotonic() - started
        if live == LIVE:
            go(page, "all")
        return page, seconds

    yield open_page
    for context in opened:
        for page in context.pages:
            page.goto("about:blank")  # as a person leaves; the kernel ends
        context.close()


@pytest.fixture
def calibrating(visit):
    """A page whose kernel calibrates for long, on small batches; its panel."""
    page, _ = visit()
    panel = page.locator("[data-view=calibration]")
    for label, value in (("Samples", "4000"), ("Tokens in each", "16")):
        panel.get_by_label(label).fill(value)
        page.keyboard.press("Tab")
    page.locator("pre[data-language=python]").filter(has_text="length=16").wait_for()
    panel.get_by_role("button", name="Calibrate").click()
    running = panel.locator(".qw-job")
    running.filter(has_text=re.compile(r"[1-9]\d* of \d+")).wait_for()
    return panel


@pytest.fixture(scope="session")
def voila_process(_voila) -> "psutil.Process":
    """The command itself; its child is the server."""
    return psutil.Process(_voila[1].pid)


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[str]:
    """Address of `workbench lab` on a copy of the shipped notebooks, in its dark theme."""
    root = tmp_path_factory.mktemp("lab")
    settings = root / "settings"
    extension = settings / "@jupyterlab" / "apputils-extension"
    extension.mkdir(parents=True)
    for name, content in SETTINGS.items():
        (extension / f"{name}.jupyterlab-settings").write_text(json.dumps(content))
    options = ["--IdentityProvider.token=", "--ServerApp.log_level=ERROR", "--allow-root"]
    call = f"folder=pathlib.Path({str(root / 'notebooks')!r}), browser=False, options={options}"
    # One thread, as `workbench serve` gives its kernels: those that compete for cores are slow.
    environment = {"JUPYTERLAB_SETTINGS_DIR": str(settings), "OMP_NUM_THREADS": "1"}
    environment["WORKBENCH_HISTORY"] = str(root / "history.sqlite")
    with _server("lab", call, **environment) as (address, _):
        yield address


@contextmanager
def _server(
    function: str, arguments: str, **environment: str
) -> Iterator[tuple[str, subprocess.Popen]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = (
        f"import pathlib, sys; from workbench.serve import {function}; "
        f"sys.exit({function}(port={port}, {arguments}))"
    )
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    server = subprocess.Popen([sys.executable, "-c", script], env=surroundings)
    try:
        _wait_until_listening(server, port)
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.terminate()
        server.wait(20)


def _wait_until_listening(server: subprocess.Popen, port: int) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end:
        assert server.poll() is None, "the server ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server does not listen")
