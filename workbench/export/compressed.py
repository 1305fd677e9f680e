"""Checkpoints of compressed-tensors that vLLM serves."""

from pathlib import Path

from workbench.export.base import Exporter, Job
from workbench.export.rules import check_for_vllm
from workbench.models.save import save


class CompressedTensors(Exporter):
    """What `save` writes, with a promise: vLLM has a kernel for every layer of it."""

    name = "compressed-tensors"
    what = "safetensors for vLLM and transformers: W8A8, W4A16, W8A16, float8"

    def check(self, job: Job) -> None:
        check_for_vllm(job.model)

    def write(self, job: Job, folder: Path) -> tuple[str, ...]:
        save(job.model, folder, tokenizer=job.tokenizer)
        return ()
