"""What a model will need, before it is loaded: from its config and the headers of its files."""

import json
import math
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors, get_safetensors_metadata, hf_hub_download
from huggingface_hub import try_to_load_from_cache as cached_file
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.bundled import bundled
from workbench.models.checkpoint import Checkpoint
from workbench.models.hub import explained
from workbench.models.load import HUB_ID

WIDTHS = {"fp32": 32, "bf16": 16, "int8": 8, "int4": 4}
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers")
PROBE_BYTES = 32 << 20
OBSERVING = 1.3  # of a forward, the most that observation is allowed to cost
MEMINFO, LIMIT = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
USED = LIMIT.with_name("memory.current")


class Estimate(BaseModel):
    """What is known of a model from its headers, and what follows from rates measured here.

    `bytes` are those of all parameters at each width, without scales. `load_seconds` and
    `observe_seconds` are predictions, None where nothing could be measured to base them on, and
    `free_bytes` is None where the system does not say.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    architecture: str
    parameters: int
    layers: int | None
    bytes: dict[str, int]
    file_bytes: int
    free_bytes: int | None
    load_seconds: float | None
    observe_seconds: float | None

    @property
    def fits(self) -> bool:
        """Whether the float model leaves room for its copy in 8 bits."""
        return self.free_bytes is None or self.bytes["fp32"] + self.bytes["int8"] < self.free_bytes


def estimate(name: str, *, tokens: int = 8192) -> Estimate:
    """Read the headers of the model `name` (as `load` takes it); nothing of its weights is loaded.

    `tokens` is how many an observation will run. For a hub id that is not in the cache a few
    kilobytes are fetched. Raises WorkbenchError where there is no such model or no safetensors.
    """
    folder = _folder(name)
    if folder is None:
        config, parameters, size = _on_the_hub(name)
        rate = None
    else:
        checkpoint = Checkpoint.of(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        parameters = _parameters(checkpoint.outlines())
        size = sum(path.stat().st_size for path in checkpoint.files)
        rate = read_rate(checkpoint.files[0])
    return Estimate(
        name=name,
        architecture=next(iter(config.get("architectures") or [config.get("model_type", "")])),
        parameters=parameters,
        layers=next((int(config[key]) for key in LAYERS if key in config), None),
        bytes={width: parameters * bits // 8 for width, bits in WIDTHS.items()},
        file_bytes=size,
        free_bytes=free_bytes(),
        load_seconds=None if rate is None else size / rate,
        observe_seconds=OBSERVING * 2 * parameters * tokens / multiply_rate(),
    )


def _folder(name: str) -> Path | None:
    """Where the files of the model lie; None where they are on the hub only."""
    if (entry := bundled.get(name)) is not None:
        return entry.folder()
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise WorkbenchError(f"{folder} holds no config.json, so its size is known when loaded")
        return folder
    if not HUB_ID.fullmatch(name):
        raise WorkbenchError(
            f"there is no model {name!r}; allowed: a bundled name ({', '.join(bundled)}), "
            "a local folder, or a hub id such as 'org/model'"
        )
    config = cached_file(name, "config.json")
    if not isinstance(config, str):
        return None
    kept = Path(config).parent
    return kept if any(kept.glob("*.safetensors")) else None


def _on_the_hub(name: str) -> tuple[dict[str, Any], int, int]:
    """Config, parameters and bytes of the files of a hub id, without fetching its weights."""
    try:
        found = get_safetensors_metadata(name)
        text = Path(hf_hub_download(name, "config.json")).read_text(encoding="utf-8")
    except (OSError, ValueError, errors.HfHubHTTPError, errors.EntryNotFoundError) as error:
        raise WorkbenchError(explained(name, error)) from error
    spans = (
        tensor.data_offsets
        for one in found.files_metadata.values()
        for tensor in one.tensors.values()
    )
    return json.loads(text), sum(found.parameter_count.values()), sum(b - a for a, b in spans)


def _parameters(tensors: Mapping[str, Tensor]) -> int:
    """Count the numbers that a checkpoint stands for, those of packed weights unpacked."""
    count = 0
    for key, tensor in tensors.items():
        if key.endswith("weight_shape"):
            count += math.prod(tensor.tolist())
        elif not key.endswith("weight_packed"):
            count += tensor.numel()
    return count


def read_rate(path: Path) -> float:
    """Bytes a second at which the head of a file comes into memory, at least in 1 ms."""
    start = time.perf_counter()
    with path.open("rb") as file:
        size = len(file.read(PROBE_BYTES))
    return size / max(time.perf_counter() - start, 1e-3)


@cache
def multiply_rate() -> float:
    """Floating-point operations a second of a product as large as a layer's, measured once."""
    x, weight = torch.ones(256, 1024), torch.ones(1024, 1024)
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        taken.append(time.perf_counter() - start)
    return 2 * 256 * 1024 * 1024 / min(taken)


def free_bytes() -> int | None:
    """Memory that this process may still take, where Linux says it; None elsewhere."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        free = int(available.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return None
    try:  # a container may allow less
        return min(free, int(LIMIT.read_text()) - int(USED.read_text()))
    except (OSError, ValueError):
        return free
