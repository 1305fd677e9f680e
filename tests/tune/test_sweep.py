"""Sweeps on every kind of executor, workers that die among them."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context

import pytest

import workbench as wb
from workbench.progress import Cancelled, reporting
from workbench.tune import sweep
from workbench.tune.sweep import DISTRIBUTION

POINTS = [-3, 1, 2, 1]
EXPECTED = {-3: 3, 1: 1, 2: 2}


def test_each_point_is_measured_once_and_in_order():
    calls = []
    assert list(sweep(lambda p: calls.append(p) or abs(p), POINTS).items()) == list(
        EXPECTED.items()
    )
    assert calls == [-3, 1, 2]


def test_threads_and_processes_find_the_same():
    with ThreadPoolExecutor(2) as executor:
        assert sweep(abs, POINTS, executor) == EXPECTED
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        assert sweep(abs, POINTS, executor) == EXPECTED


def test_an_error_cancels_the_rest():
    done = []

    def measure(point):
        if point == 0:
            raise ZeroDivisionError("point 0")
        time.sleep(0.05)
        done.append(point)

    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(ZeroDivisionError, match="point 0"),
    ):
        sweep(measure, range(100), executor)
    assert len(done) < 10


class _Stopping:
    def update(self, what, done, total):
        self.done = done

    def check(self):
        if getattr(self, "done", 0) >= 2:
            raise Cancelled


def test_a_cancel_is_obeyed_between_points():
    with ThreadPoolExecutor(1) as executor, pytest.raises(Cancelled), reporting(_Stopping()):
        sweep(abs, range(1000), executor)


def test_a_process_that_dies_is_told():
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor,
        pytest.raises(wb.WorkbenchError, match="a worker died after 0 of 1 points"),
    ):
        sweep(os._exit, [3], executor)


class _Elsewhere(ThreadPoolExecutor):
    """Workers with another version of the package."""

    def submit(self, function, *arguments, **keywords):
        if function is version:
            return super().submit(lambda _: "0.0.1", *arguments)
        return super().submit(function, *arguments, **keywords)


def test_workers_with_another_version_are_refused():
    with (
        _Elsewhere(1) as executor,
        pytest.raises(wb.WorkbenchError, match=r"have .* 0\.0\.1, this process"),
    ):
        sweep(abs, POINTS, executor)


# A local cluster over TCP

SLOW = """
import os, time

def slow(point):
    with open(os.path.join({folder!r}, str(point)), "a") as file:
        file.write(str(os.getpid()) + "\\n")
    time.sleep(0.4)
    return point * point
"""


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            protocol="tcp",
            dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
def test_a_killed_dask_worker_loses_nothing(cluster, tmp_path):
    namespace = {"__name__": "__main__"}  # sent by value: the workers have no such file
    exec(SLOW.format(folder=str(tmp_path)), namespace)
    victim = next(iter(cluster.run(os.getpid).values()))
    assert victim != os.getpid()
    killer = ThreadPoolExecutor(1)

    def kill():
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if any(str(victim) in path.read_text() for path in tmp_path.iterdir()):
                os.kill(victim, signal.SIGKILL)
                return True
            time.sleep(0.01)
        return False

    killed = killer.submit(kill)
    points = list(range(12))
    assert sweep(namespace["slow"], points, cluster.get_executor()) == {p: p * p for p in points}
    assert killed.result()
    starts = [path.read_text().split() for path in tmp_path.iterdir()]
    assert any(len(pids) > 1 and str(victim) in pids for pids in starts), "one ran again elsewhere"


@pytest.mark.slow
def test_dask_workers_without_the_package_are_told(tmp_path):
    """A worker whose site-packages hold all that ours do, but this distribution."""
    distributed = pytest.importorskip("distributed")
    import site

    for folder in site.getsitepackages():
        for path in os.scandir(folder):
            ours = path.name.replace("-", "_").startswith(("quantization_workbench", "workbench"))
            if not ours and not path.name.endswith((".pth", "__pycache__")):
                (tmp_path / path.name).symlink_to(path.path)
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, protocol="tcp", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        worker = subprocess.Popen(
            [
                *(sys.executable, "-S", "-m", "distributed.cli.dask_worker"),
                *(cluster.scheduler_address, "--no-nanny", "--nthreads", "1", "--no-dashboard"),
            ],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
        )
        try:
            client.wait_for_workers(1, timeout=60)
            with pytest.raises(
                wb.WorkbenchError,
                match=f"the workers of this ClientExecutor lack {DISTRIBUTION}: install version",
            ):
                sweep(abs, POINTS, client.get_executor())
        finally:
            worker.kill()
            worker.wait()
