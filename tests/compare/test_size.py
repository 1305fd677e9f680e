"""Bytes on disk."""

import pytest

from workbench.compare import bytes_on_disk
from workbench.errors import WorkbenchError


def test_counts_every_file(tmp_path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "config.json").write_bytes(b"{}")
    assert bytes_on_disk(tmp_path) == 1002


def test_refuses_what_is_no_folder(tmp_path) -> None:
    with pytest.raises(WorkbenchError, match="is not a folder"):
        bytes_on_disk(tmp_path / "nowhere")
