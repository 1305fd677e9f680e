"""Estimates from headers, against the model itself."""

import json
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors.torch import save_file

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.models import estimate as module
from workbench.models.estimate import estimate, free_bytes


def test_a_bundled_model_is_estimated_as_it_is() -> None:
    found, loaded = estimate("pylm"), wb.load("pylm")
    assert found.parameters == loaded.parameters_count
    assert found.bytes["fp32"] == loaded.bytes
    assert found.bytes["int4"] == found.parameters // 2
    assert found.layers == loaded.model.config.num_hidden_layers
    assert found.architecture == "LlamaForCausalLM"
    assert found.file_bytes == sum(p.stat().st_size for p in loaded.folder.glob("*.safetensors"))
    assert 0 < found.load_seconds < 60
    assert found.observe_seconds > 0


def test_twice_the_tokens_take_twice_as_long() -> None:
    once, twice = estimate("pylm", tokens=1000), estimate("pylm", tokens=2000)
    assert twice.observe_seconds == pytest.approx(2 * once.observe_seconds)


def test_packed_weights_count_as_what_they_stand_for(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "n_layer": 3}))
    packed = {
        "a.weight_packed": torch.zeros(6, 2, dtype=torch.int32),
        "a.weight_shape": torch.tensor([6, 16]),
        "b.weight": torch.zeros(5, 5, dtype=torch.bfloat16),
    }
    save_file(packed, tmp_path / "model.safetensors")
    found = estimate(str(tmp_path))
    assert found.parameters == 6 * 16 + 5 * 5
    assert found.layers == 3


def test_no_room_is_told() -> None:
    found = estimate("pylm")
    assert found.model_copy(update={"free_bytes": 10**12}).fits
    assert not found.model_copy(update={"free_bytes": found.bytes["fp32"]}).fits
    assert found.model_copy(update={"free_bytes": None}).fits


def test_free_memory_heeds_the_limit_of_a_container(monkeypatch, tmp_path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:    800 kB\n")
    monkeypatch.setattr(module, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(module, "LIMIT", tmp_path / "max")
    monkeypatch.setattr(module, "USED", tmp_path / "current")
    assert free_bytes() == 800 * 1024
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "current").write_text("100\n")
    assert free_bytes() == 800 * 1024
    (tmp_path / "max").write_text("5000\n")
    assert free_bytes() == 4900
    monkeypatch.setattr(module, "MEMINFO", tmp_path / "none")
    assert free_bytes() is None


def test_a_hub_id_is_estimated_from_its_headers_alone(monkeypatch, tmp_path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"architectures": ["X"], "num_hidden_layers": 2}))
    tensor = SimpleNamespace(data_offsets=(0, 80))
    headers = SimpleNamespace(
        parameter_count={"BF16": 40}, files_metadata={"f": SimpleNamespace(tensors={"w": tensor})}
    )
    monkeypatch.setattr(module, "get_safetensors_metadata", lambda name: headers)
    monkeypatch.setattr(module, "hf_hub_download", lambda name, file: str(config))
    found = estimate("org/model")
    assert (found.parameters, found.file_bytes, found.layers) == (40, 80, 2)
    assert found.load_seconds is None  # a network's rate was not measured


@pytest.mark.parametrize(
    ("name", "said"),
    [("no/body", "no/body is not in the cache"), ("what is this", "there is no model 'what is")],
)
def test_what_cannot_be_estimated_says_why(name, said, monkeypatch) -> None:
    def offline(_):
        raise OfflineModeIsEnabled

    monkeypatch.setattr(module, "get_safetensors_metadata", offline)
    with pytest.raises(WorkbenchError, match=said):
        estimate(name)


def test_a_folder_without_a_config_says_so(tmp_path) -> None:
    with pytest.raises(WorkbenchError, match=r"holds no config\.json"):
        estimate(str(tmp_path))
