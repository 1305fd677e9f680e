"""What loading and saving hold in memory at most, in a process of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import workbench as wb
from workbench.models import save
from workbench.quant import QuantArgs, freeze, quantize

WORKER = """
import json, sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM
import workbench
def status(key):  # ru_maxrss would do not: a child starts with its parent's
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024
workbench.quantize, workbench.save, AutoModelForCausalLM.from_pretrained  # all imports
folder, way = sys.argv[1:]
before = status("VmRSS")
if way == "workbench":
    model = workbench.load(folder).model
elif way == "on load":
    how = workbench.WorkbenchConfig(weights="int8")
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=how)
else:
    model = AutoModelForCausalLM.from_pretrained(folder)
tensors = [*model.parameters(), *model.buffers()]
touched = [t.flatten()[::512].clone() for t in tensors]  # or what is mapped would not count
loaded = sum(t.nbytes for t in tensors)
if way == "save":
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    workbench.save(model, folder + "-again", max_shard_size="50MB")
print(json.dumps({"peak": status("VmHWM") - before, "loaded": loaded}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
def test_neither_loading_nor_saving_makes_a_copy(tmp_path):
    """300 million random parameters: 1.2 GB as float32, a quarter of that as integers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=1536,
        intermediate_size=6144,
        num_hidden_layers=8,
        num_attention_heads=12,
    )
    model = LlamaForCausalLM(config)
    floats = sum(p.nbytes for p in model.parameters())
    model.save_pretrained(tmp_path / "float")
    quantize(model, "int8", QuantArgs(granularity="token", dynamic=True))
    freeze(model)
    save(model, tmp_path / "ours")
    wb.QuantizedModelForCausalLM(model).save_pretrained(tmp_path / "theirs")
    wb.dequantize(model)
    quantize(model, "int8")
    freeze(model)
    save(model, tmp_path / "packed")
    del model
    bounds = {
        ("ours", "workbench"): 0.5,
        ("theirs", "transformers"): 0.5,
        ("float", "on load"): 0.5,  # a plain load has 1
        ("packed", "save"): 0.15,  # a shard of 50 MB, and a matrix on its way out of panels
    }
    for (folder, way), bound in bounds.items():
        command = [sys.executable, "-c", WORKER, str(tmp_path / folder), way]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(ran.stdout.splitlines()[-1])
        assert found["loaded"] < 0.35 * floats
        assert found["peak"] < bound * floats, (way, floats, found)
