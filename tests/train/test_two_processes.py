"""Two processes on this machine train as one, each with a part of the optimizer's state."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("one_of_two.py")


def run(folder: Path, processes: int, kill_at: int = -1, resume: str = "anew") -> list[int]:
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
                [sys.executable, str(SCRIPT), str(folder), str(kill_at), resume],
                env=os.environ | {"OMP_NUM_THREADS": "1"} | (alone if processes > 1 else {}),
                stdout=subprocess.DEVNULL,
            )
        )
    return [process.wait(timeout=600) for process in started]


def told(folder: Path) -> dict:
    return json.loads((folder / "told.json").read_text())


@pytest.mark.slow
def test_two_processes_train_as_one_and_a_killed_run_resumes_to_the_same_end(tmp_path) -> None:
    assert run(tmp_path / "one", 1) == [0]
    one = told(tmp_path / "one")
    ends = run(tmp_path / "two", 2, kill_at=5)
    assert ends[1] == -9
    assert ends[0] != 0  # the other does not go on, or wait, alone
    assert not (tmp_path / "two" / "told.json").exists()
    assert run(tmp_path / "two", 2, resume="resume") == [0, 0]
    two = told(tmp_path / "two")
    assert two["kept"] == ["zero1"]
    assert len(two["losses"]) == 8
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert two["bytes"] < 0.7 * one["bytes"]
