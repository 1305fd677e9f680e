"""The engines that benchmarks set side by side; a library of its own is one file here."""

from workbench.bench.engines.base import Bind, Engine, Layer, ModuleEngine, Run, quiet
from workbench.bench.engines.decoding import Decoder, compiled_decoder
from workbench.bench.engines.llama_cpp import LlamaCpp
from workbench.bench.engines.onnx_runtime import OnnxRuntime
from workbench.bench.engines.open_vino import OpenVino
from workbench.bench.engines.ours import Workbench
from workbench.bench.engines.quanto import Quanto
from workbench.bench.engines.torch_float import TorchBf16, TorchFp32
from workbench.bench.engines.torchao import TorchAo

engines: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        TorchFp32(),
        TorchBf16(),
        Workbench(),
        Quanto(),
        TorchAo(),
        OnnxRuntime(),
        OpenVino(),
        LlamaCpp(),
    )
}

__all__ = [
    "Bind", "Decoder", "Engine", "Layer", "ModuleEngine", "Run", "compiled_decoder", "engines",
    "quiet",
]  # fmt: skip
