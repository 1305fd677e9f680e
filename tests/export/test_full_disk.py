"""A disk that is full while an export is written: told in words, and no half of it remains."""

import resource
from contextlib import contextmanager

import pytest

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.export import export, exporters

pytest.importorskip("onnxscript")
pytest.importorskip("openvino")
pytest.importorskip("gguf")


@contextmanager
def room_for(size: int):
    """Files of at most `size` bytes, as far as the system is concerned."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", [name for name in exporters if name != "executorch"])
def test_nothing_half_written_stays(tmp_path, name, tiny_llama) -> None:
    model = tiny_llama
    wb.quantize(model, "int8", include="*self_attn*")
    wb.freeze(model)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").write_text("content")
    with room_for(20_000), pytest.raises(WorkbenchError, match="cannot be written"):
        export(model, folder, format=name)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in folder.iterdir()] == ["old"]
