"""What every test may use, and the rule that on CI a browser or data test is never skipped."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from workbench.garbage import uncollected

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import LlamaForCausalLM

MUST_RUN = set(os.environ.get("WORKBENCH_NO_SKIP", "").split())  # markers
WORKER_GIB = 6  # what one worker may need at its peak
_skipped: list[str] = []

os.environ.setdefault("WORKBENCH_HISTORY", "off")  # what a test measures is no run of its user


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share cores and memory out among workers for the whole suite; named tests run right here.

    Workers whose threads wait spinning for each other on the same cores are many times slower.
    """
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    cores = os.cpu_count() or 1
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    workers = max(1, min(cores, gib // WORKER_GIB))
    os.environ.setdefault("OMP_NUM_THREADS", str(cores // workers))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    return workers


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import all test files, and with them all of the package."""
    with uncollected():
        return (yield)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.skipped and MUST_RUN.intersection(mark.name for mark in item.iter_markers()):
        _skipped.append(item.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if MUST_RUN and report.skipped:  # a whole file: its markers were never seen
        _skipped.append(report.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _skipped.extend(node.workeroutput["skipped"])


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker tells whoever started it
        session.config.workeroutput["skipped"] = _skipped
    elif _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name in sorted(set(_skipped)):  # each worker collects every file
        terminalreporter.write_line(f"SKIPPED WHERE IT MUST RUN: {name}", red=True)


@pytest.fixture(scope="session")
def data_sets() -> Path:
    """The folder of public data sets; tests that ask for it are marked `data`."""
    folder = os.environ.get("WORKBENCH_DATA")
    if not folder:
        pytest.skip("WORKBENCH_DATA does not name the folder of public data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def quanto() -> Iterator[Any]:
    """The package, unpacking in Python: it would compile C++ at its first use, for a minute."""
    package = pytest.importorskip("optimum.quanto")
    import torch
    from optimum.quanto.library.extensions import cpp

    class Lib:
        @staticmethod
        def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
            return torch.cat([(packed >> low) & (2**bits - 1) for low in range(0, 8, bits)])

    before, cpp.ext._lib = cpp.ext._lib, Lib
    yield package
    cpp.ext._lib = before


@pytest.fixture
def tiny_llama() -> "LlamaForCausalLM":
    """A random Llama of two blocks over 97 tokens; the same weights every time."""
    from tiny_models import llama

    return llama(32, intermediate_size=48, tie_word_embeddings=True, pad_token_id=0)


@pytest.fixture
def tiny_words() -> list[str]:
    """What that Llama's tokenizer knows: padding, the unknown, and the commonest bits of code."""
    import re
    from collections import Counter

    from workbench.models.text import files

    found = Counter(re.findall(r"\w+|[^\w\s]+", "".join(files("calibration").values())))
    return ["<pad>", "<unknown>", *(word for word, _ in found.most_common(95))]


@pytest.fixture
def tiny_folder(tiny_llama: "LlamaForCausalLM", tiny_words: list[str], tmp_path: "Path") -> "Path":
    """That Llama saved with its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    import workbench as wb

    numbered = {word: index for index, word in enumerate(tiny_words)}
    inner = Tokenizer(models.WordLevel(numbered, unk_token="<unknown>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unknown>", pad_token="<pad>"
    )
    return wb.save(tiny_llama, tmp_path / "tiny", tokenizer=tokenizer)
