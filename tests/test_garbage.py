"""Looking for garbage is put off, and nothing else changes."""

import gc
from collections.abc import Iterator

import pytest

from workbench.garbage import uncollected


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    enabled = gc.isenabled()
    yield
    (gc.enable if enabled else gc.disable)()


@pytest.mark.parametrize("before", [True, False])
def test_the_collector_is_left_as_it_was_also_by_an_error(before) -> None:
    (gc.enable if before else gc.disable)()
    with pytest.raises(ImportError, match="collecting: False"), uncollected():
        raise ImportError(f"collecting: {gc.isenabled()}")
    assert gc.isenabled() == before
