"""OpenVINO's CPU plugin."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.bench.engines.base import Bind, Engine, Inputs, Layer, Run
from workbench.bench.engines.numbers import grouped, per_channel
from workbench.bench.schemes import Scheme
from workbench.export.quiet import in_private

Configuration = dict[str, Any]


class OpenVino(Engine):
    """OpenVINO with graphs built from constants; float32 in and out, bfloat16 inside if it likes.

    w8a8-static has its activations rounded by FakeQuantize; the others compress weights, with
    DYNAMIC_QUANTIZATION_GROUP_SIZE 0 where activations stay float.
    """

    name = "openvino"
    package = "openvino"
    install = "pip install 'quantization-workbench[peers]'"
    ops = ("float", "w8a8", "w8a8-static", "w8", "w4", "w4a8", "w2")
    encoder_ops = ("float", "w8", "w8a8-static")
    bytes_of = "graph"  # its constants: what the plugin makes of them it does not tell

    def dtype(self, scheme: Scheme, asked: torch.dtype) -> torch.dtype:
        del scheme, asked
        return torch.float32

    def layer(self, linear: nn.Linear, scheme: Scheme, x: Tensor) -> Layer:
        weight = linear.weight.detach().numpy()
        bias = np.zeros(len(weight), np.float32)
        if linear.bias is not None:
            bias = linear.bias.detach().numpy()
        return _OpenVinoLayer(weight, bias, scheme, x.abs().max().item())

    def encoder(self, model: nn.Module, scheme: Scheme, inputs: Inputs) -> Bind[Run]:
        import openvino

        arrays = {name: value.numpy() for name, value in inputs.items()}
        shapes = [(name, list(value.shape)) for name, value in arrays.items()]
        with in_private():
            converted = openvino.convert_model(model, example_input=dict(inputs), input=shapes)
            if not scheme.is_float:
                converted = _compressed(converted, scheme, arrays)
        constants = [op for op in converted.get_ops() if op.get_type_name() == "Constant"]
        size = sum(op.get_byte_size() for op in constants)

        def bind(threads: int) -> Run:
            compiled = _compile(converted, threads, _configuration(scheme))
            request = compiled.create_infer_request()
            for port in compiled.inputs:
                request.set_tensor(port, openvino.Tensor(arrays[port.get_any_name()]))
            return replace(_run(request), bytes=size)

        return bind


@dataclass
class _OpenVinoLayer(Layer):
    weight: np.ndarray
    bias: np.ndarray
    scheme: Scheme
    absmax: float

    def bind(self, x: Tensor, threads: int) -> Run:
        # The plugin may compute on a model's constants where they lie: each run gets its own.
        import openvino
        from openvino import opset13 as op

        source = op.parameter([-1, self.weight.shape[1]], np.float32, name="x")
        taken = source
        if self.scheme.activations == "tensor":
            low = np.float32(-self.absmax * 128 / 127)
            high = np.float32(self.absmax)
            taken = op.fake_quantize(source, low, high, low, high, 256)
        weights = _weights[self.scheme.op](self.weight, self.scheme)
        y = op.add(op.matmul(taken, weights, False, True), op.constant(self.bias))
        model = openvino.Model([y], [source])
        request = _compile(model, threads, _configuration(self.scheme)).create_infer_request()
        request.set_input_tensor(openvino.Tensor(x.numpy(), shared_memory=True))
        return _run(request)


def _run(request: Any) -> Run:
    """Infer, and read the output where it lies."""
    return Run(request.infer, lambda _: torch.from_numpy(request.get_output_tensor(0).data.copy()))


def _compile(model: Any, threads: int, configuration: Configuration) -> Any:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": "1", **configuration}
    return openvino.Core().compile_model(model, "CPU", settings)


def _configuration(scheme: Scheme) -> Configuration:
    if scheme.is_float:
        return {"INFERENCE_PRECISION_HINT": "f32" if scheme.bits == 32 else "bf16"}
    if scheme.activations == "token":
        return {"DYNAMIC_QUANTIZATION_GROUP_SIZE": scheme.group_size or 128}
    return {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}


def _float(weight: np.ndarray, scheme: Scheme) -> Any:
    from openvino import opset13 as op

    del scheme
    return op.constant(weight)


def _int8(weight: np.ndarray, scheme: Scheme) -> Any:
    from openvino import opset13 as op

    del scheme
    values, scale = per_channel(weight)
    return op.multiply(op.convert(op.constant(values), np.float32), op.constant(scale))


def _grouped(weight: np.ndarray, scheme: Scheme) -> Any:
    import openvino
    from openvino import opset13 as op

    found = grouped(weight, scheme.bits, scheme.group_size or weight.shape[1])
    # It packs as we do, but an array of ours under a tensor of its would not outlive this function.
    kind = {4: openvino.Type.u4, 2: openvino.Type.u2}[scheme.bits]
    values = openvino.Tensor(kind, openvino.Shape(list(found.values.shape)))
    values.data[:] = found.packed.ravel()
    shifted = op.subtract(
        op.convert(op.constant(values), np.float32),
        op.convert(op.constant(found.zero_point), np.float32),
    )
    blocks = op.multiply(shifted, op.constant(found.scale))
    return op.reshape(blocks, op.constant(np.array(weight.shape)), False)


_weights: Mapping[str, Callable[[np.ndarray, Scheme], Any]] = {
    "float": _float,
    "w8a8": _int8,
    "w8a8-static": _int8,
    "w8": _int8,
    "w4": _grouped,
    "w4a8": _grouped,
    "w2": _grouped,
}


def _compressed(model: Any, scheme: Scheme, arrays: Mapping[str, np.ndarray]) -> Any:
    """Quantize a converted model with NNCF, as OpenVINO's users do."""
    import nncf

    if scheme.op == "w8":
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    return nncf.quantize(
        model, nncf.Dataset([dict(arrays)]), model_type=nncf.ModelType.TRANSFORMER, subset_size=1
    )
