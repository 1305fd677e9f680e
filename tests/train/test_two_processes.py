"""Two processes on this machine train as one, each with a part of what the optimizer holds."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("one_of_two.py")


def run(
    how: str, folder: Path, processes: int, kill_at: int = -1, resume: str = "anew"
) -> list[int]:
    """Start the processes, wait for them, and return how they ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        alone = {"WORLD_SIZE": str(processes), "RANK": str(rank), "LOCAL_RANK": str(rank),
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
        started.append(
            subprocess.Popen(
                [sys.executable, str(SCRIPT), how, str(folder), str(kill_at), resume],
                env=os.environ | {"OMP_NUM_THREADS": "1"} | (alone if processes > 1 else {}),
                stdout=subprocess.DEVNULL,
            )
        )
    return [process.wait(timeout=600) for process in started]


def told(folder: Path) -> dict:
    return json.loads((folder / "told.json").read_text())


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("one")
    assert run("zero1", folder, 1) == [0]
    return told(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "divided"), [("zero1", 1), ("fsdp", 0.55)])
def test_two_processes_train_as_one_and_a_killed_run_resumes_to_the_same_end(
    one, tmp_path, how, divided
) -> None:
    ends = run(how, tmp_path, 2, kill_at=5)
    assert ends[1] == -9
    assert ends[0] != 0  # the other does not go on, or wait, alone
    assert not (tmp_path / "told.json").exists()
    assert run(how, tmp_path, 2, resume="resume") == [0, 0]
    two = told(tmp_path)
    assert len(two["losses"]) == 8
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert two["optimizer"] < 0.7 * one["optimizer"]
    assert two["weights"] <= divided * one["weights"]
