"""Two processes on this machine train as one, each with a part of what the optimizer holds."""

import json
import multiprocessing
import socket
from functools import cache
from pathlib import Path

import pytest
from train.one_of_two import train

pytestmark = pytest.mark.slow


@cache
def processes():
    """Where a new process has imported everything, and computed nothing."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([train.__module__])
    return found


def run(
    how: str, lesson: str, folder: Path, count: int, kill_at: int = -1, resume: bool = False
) -> list[int | None]:
    """Start so many processes, wait for them, and return how they ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(count):
        there = {"WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank),
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
        given = (how, lesson, folder, there if count > 1 else {}, kill_at, resume)
        started.append(processes().Process(target=train, args=given, daemon=True))
        started[-1].start()
    for process in started:
        process.join(600)
    return [process.exitcode for process in started]


def told(folder: Path) -> dict:
    return json.loads((folder / "told.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process tells of a lesson."""

    @cache
    def found(lesson: str) -> dict:
        folder = tmp_path_factory.mktemp("one")
        assert run("zero1", lesson, folder, 1) == [0]
        return told(folder)

    return found


def same(two: dict, one: dict, divided: float, alike: int = 8) -> None:
    """The first `alike` losses to rounding, and the others near."""
    assert len(two["losses"]) == 8
    assert two["losses"][:alike] == pytest.approx(one["losses"][:alike], rel=1e-5)
    assert two["losses"] == pytest.approx(one["losses"], rel=0.02)
    assert two["optimizer"] < 0.7 * one["optimizer"]
    assert two["weights"] <= divided * one["weights"]


@pytest.mark.parametrize(("how", "divided"), [("zero1", 1), ("fsdp", 0.55)])
def test_two_processes_train_as_one_and_a_killed_run_resumes_to_the_same_end(
    alone, tmp_path, how, divided
) -> None:
    ends = run(how, "plain", tmp_path, 2, kill_at=5)
    assert ends[1] == -9
    assert ends[0] != 0  # the other does not go on, or wait, alone
    assert not (tmp_path / "told.json").exists()
    assert run(how, "plain", tmp_path, 2, resume=True) == [0, 0]
    same(told(tmp_path), alone("plain"), divided)


@pytest.mark.parametrize(
    ("how", "lesson", "divided", "alike"), [("zero1", "aware", 1, 3), ("fsdp", "taught", 0.55, 8)]
)
def test_two_processes_learn_from_a_teacher_as_one(
    alone, tmp_path, how, lesson, divided, alike
) -> None:
    """Quantized, too, until a value between two integers goes to the other after another sum."""
    assert run(how, lesson, tmp_path, 2) == [0, 0]
    same(two := told(tmp_path), one := alone(lesson), divided, alike)
    assert two["held_out"] == pytest.approx(one["held_out"], rel=0.02)  # as it is frozen
