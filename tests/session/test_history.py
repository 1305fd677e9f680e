"""The database of runs: shared by processes, never lost, and honest where it cannot be used."""

import multiprocessing
import os
import sqlite3
import sys

import pytest

import workbench as wb
from workbench.compare.comparison import Comparison, LayerError
from workbench.session import History, Run
from workbench.session.history import FORMAT, data_folder


def run(key: str, *, setting: str = "here", kl: float = 0.1) -> Run:
    layers = [LayerError(name="lm_head", sqnr_db=float("inf"))]
    comparison = Comparison(loss=2.0, loss_reference=1.9, kl=kl, tokens=100, layers=layers)
    return Run(
        key=key,
        content="weights",
        data="text",
        setting=setting,
        recipe=wb.Recipe().with_alpha(0.7),
        comparison=comparison,
        bytes=10,
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "history.sqlite"


def test_yesterdays_runs_are_there_today_and_those_of_other_settings_are_not(path) -> None:
    first, infinite = run("a"), run("b", kl=float("inf"))
    yesterday = History(path)
    for one in (first, infinite, run("c", setting="elsewhere")):
        yesterday.add(one)
    today = History(path)
    assert today.runs("weights", "here") == [first, infinite]
    assert today.get("a") == first
    assert today.get("z") is None
    assert today.runs("other weights", "here") == []
    assert today.problem == ""


def test_measuring_again_replaces_and_keeps_one(path) -> None:
    history = History(path)
    history.add(run("a"))
    faster = run("a").model_copy(update={"prefill_ms": 3.0})
    history.add(faster)
    assert History(path).runs("weights", "here") == [faster]


def test_a_notebook_finds_the_recipe_it_was_left_with_and_another_does_not(path) -> None:
    History(path).add(run("a"))
    with sqlite3.connect(path) as base:  # as an earlier version wrote it
        base.execute("DROP TABLE left_recipes")
    assert History(path).left("one.ipynb") is None
    recipe = wb.Recipe().with_alpha(0.31)
    for left in (wb.Recipe(), recipe):
        History(path).leave("one.ipynb", left)
    assert History(path).left("one.ipynb").recipe == recipe
    assert History(path).left("other.ipynb") is None
    nowhere = History()
    nowhere.leave("one.ipynb", recipe)
    assert nowhere.left("one.ipynb") is None
    with sqlite3.connect(path) as base:
        base.execute("UPDATE left_recipes SET document = '{}'")
    assert History(path).left("one.ipynb") is None


def write(path, name: str) -> None:
    for number in range(25):
        History(path).add(run(f"{name}{number}"))


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_two_processes_at_once_lose_nothing(path) -> None:
    fork = multiprocessing.get_context("fork")  # the child needs no second import of torch
    writers = [fork.Process(target=write, args=(path, name)) for name in "xy"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(History(path).runs("weights", "here")) == 50


@pytest.mark.parametrize("kind", ["corrupt", "newer", "a folder"])
def test_a_file_that_cannot_be_used_is_left_alone_and_runs_are_kept_in_memory(path, kind) -> None:
    path.parent.mkdir()
    if kind == "corrupt":
        path.write_bytes(b"no database at all" * 100)
    elif kind == "newer":
        with sqlite3.connect(path) as base:
            base.execute(f"PRAGMA user_version = {FORMAT + 1}")
            base.execute("CREATE TABLE runs (other TEXT)")
    else:
        path.mkdir()
    before = path.read_bytes() if path.is_file() else None
    history = History(path)
    history.add(run("a"))
    assert history.get("a") == run("a").model_copy(update={"made": history.get("a").made})
    assert [r.key for r in history.runs("weights", "here")] == ["a"]
    assert "it stays as it is, and runs are kept until this session ends" in history.problem
    assert "WORKBENCH_HISTORY" in history.problem
    if kind == "newer":
        assert "newer quantization-workbench" in history.problem
    assert before is None or path.read_bytes() == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_is_still_read(path) -> None:
    History(path).add(run("a"))
    path.parent.chmod(0o500)
    try:
        history = History(path)
        assert [r.key for r in history.runs("weights", "here")] == ["a"]
        history.add(run("b"))
        assert "cannot be written" in history.problem
        assert [r.key for r in history.runs("weights", "here")] == ["a", "b"]
    finally:
        path.parent.chmod(0o700)


def test_a_row_of_another_version_is_passed_over_and_kept(path) -> None:
    History(path).add(run("a"))
    with sqlite3.connect(path) as base:
        row = ("old", "2020", "weights", "text", "here", '{"colour": "red"}')
        base.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", row)
    history = History(path)
    assert [r.key for r in history.runs("weights", "here")] == ["a"]
    with sqlite3.connect(path) as base:
        assert base.execute("SELECT count(*) FROM runs").fetchone() == (2,)


@pytest.mark.parametrize("value", ["off", "", ":memory:"])
def test_history_can_be_switched_off(monkeypatch, value) -> None:
    monkeypatch.setenv("WORKBENCH_HISTORY", value)
    assert History.default().path is None


def test_history_is_the_users_own_and_no_visitors(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("WORKBENCH_HISTORY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert History.default().path == data_folder() / "history.sqlite"
    if sys.platform.startswith("linux"):
        assert tmp_path in History.default().path.parents
    monkeypatch.setenv("WORKBENCH_HISTORY", str(tmp_path / "named.sqlite"))
    assert History.default().path == tmp_path / "named.sqlite"
    monkeypatch.setenv("WORKBENCH_SERVED", "1")
    assert History.default().path is None
