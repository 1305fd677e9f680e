"""The native kernels across processes, forks and threads, and as the environment asks for them."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from workbench.ops import native
from workbench.ops.weights import by_panel

pytestmark = pytest.mark.skipif(
    native.status().problem is not None, reason="there are no native kernels here"
)

RUNS = [name for name, obstacle in native.status().levels if obstacle is None]
BARRED = [name for name, obstacle in native.status().levels if obstacle is not None]


def products(seed: int = 0) -> bytes:
    """Layers of all bits and digits, large enough for a second thread, as the bytes they give."""
    g = torch.Generator().manual_seed(seed)
    rows, columns, groups = 200, 320, 5
    x = torch.randn(37, columns, generator=g)
    found = []
    for bits in native.BITS:
        middle = 2 ** (bits - 1)
        q = torch.randint(-middle, middle, (rows, columns), generator=g, dtype=torch.int8)
        scale = by_panel((torch.rand(groups, rows, generator=g) + 0.5).t())
        zero = torch.randint(-middle, middle, (groups, rows), generator=g, dtype=torch.int8).t()
        weight = native.Weight(native.pack(q, bits), scale, by_panel(zero), rows, None, "gelu")
        for digits in (1, 2, 3):
            found += native.linears(x, [weight], bits, columns, None, None, digits)
    return torch.stack(found).numpy().tobytes()


def digest(seed: int = 0) -> str:
    return sha256(products(seed)).hexdigest()


HERE = Path(__file__)
CODE = f"""
import sys, torch
sys.path.append({str(HERE.parent)!r})
torch.set_num_threads(2)
from {HERE.stem} import digest
print(digest())
"""


def elsewhere(**environment: str) -> subprocess.CompletedProcess[str]:
    """Print the digest in a process of its own."""
    return subprocess.run(
        [sys.executable, "-P", "-c", CODE],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_number_of_threads_changes_no_bit(two_threads):
    together = digest()
    torch.set_num_threads(1)
    assert digest() == together


def test_a_forked_child_computes_the_same_and_does_not_hang(two_threads):
    expected = digest()  # the parent now has threads that a child will not
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.write(write, digest().encode())
        os._exit(0)
    os.close(write)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(os.read, read, 100)
        try:
            assert answer.result(timeout=60).decode() == expected
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
            os.close(read)


def test_python_threads_at_once_compute_the_same(two_threads):
    expected = [products(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert list(pool.map(products, range(8))) == expected


@pytest.mark.parametrize("level", RUNS)
def test_every_level_gives_the_same_bits_in_a_process_of_its_own(level):
    found = elsewhere(WORKBENCH_KERNELS=level)
    assert found.stdout.strip() == digest(), found.stderr


@pytest.mark.parametrize("level", ["avx3", *BARRED])
def test_a_level_that_cannot_run_is_refused_in_one_line(level):
    found = elsewhere(WORKBENCH_KERNELS=level)
    assert found.returncode == 1
    line = found.stderr.splitlines()[-1]
    assert line.startswith(f"workbench.errors.WorkbenchError: WORKBENCH_KERNELS={level}")
    for name in ("none", *RUNS):
        assert name in line


def test_another_build_can_be_named(tmp_path):
    missing = tmp_path / "no-such-library.so"
    found = elsewhere(WORKBENCH_KERNELS_LIBRARY=str(missing))
    assert found.returncode == 1
    assert "no-such-library.so cannot be used" in found.stderr.splitlines()[-1]
