"""ONNX Runtime's CPU provider."""

import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.bench.engines.base import Bind, Engine, Inputs, Kind, Layer, Run
from workbench.bench.engines.numbers import grouped, pack, per_channel
from workbench.bench.schemes import Scheme

Arrays = dict[str, np.ndarray]
Graph = tuple[list[Any], Arrays]  # nodes from "x" to "y", constants
OPSET, IR = 21, 10


class OnnxRuntime(Engine):
    """ONNX Runtime with graphs built from its own operators; float32 in and out.

    w8a8 is DynamicQuantizeMatMul (one scale for all of the input), w8a8-static a QDQ graph, the
    others MatMulNBits, with int8 activations at its accuracy level 4.
    """

    name = "onnxruntime"
    package = "onnxruntime"
    install = "pip install 'quantization-workbench[peers]'"
    ops = ("float", "w8a8", "w8a8-static", "w8", "w4", "w4a8", "w2a8")
    encoder_ops = ("float", "w8a8")
    bytes_of = "file"

    def offers(self, scheme: Scheme, kind: Kind = "layer") -> bool:
        return super().offers(scheme, kind) and scheme.bits != 16

    def dtype(self, scheme: Scheme, asked: torch.dtype) -> torch.dtype:
        del scheme, asked
        return torch.float32

    def layer(self, linear: nn.Linear, scheme: Scheme, x: Tensor) -> Layer:
        weight = linear.weight.detach().numpy()
        bias = np.zeros(len(weight), np.float32)
        if linear.bias is not None:
            bias = linear.bias.detach().numpy()
        nodes, constants = _graphs[scheme.op](weight, bias, scheme, x)
        return _OnnxLayer(_model(nodes, constants, weight.shape))

    def encoder(self, model: nn.Module, scheme: Scheme, inputs: Inputs) -> Bind[Run]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "float.onnx"
            _export(model, inputs, path)
            if not scheme.is_float:
                from onnxruntime.quantization import QuantType, quantize_dynamic

                quantized = Path(folder) / "int8.onnx"
                # Signed weights per channel; the rest are its defaults.
                quantize_dynamic(path, quantized, per_channel=True, weight_type=QuantType.QInt8)
                path = quantized
            content = path.read_bytes()

        def bind(threads: int) -> Run:
            session = _session(content, threads)
            names = {node.name for node in session.get_inputs()}
            feed = {name: value.numpy() for name, value in inputs.items() if name in names}
            return Run(partial(session.run, None, feed), _first, len(content))

        return bind


@dataclass
class _OnnxLayer(Layer):
    model: bytes

    def bind(self, x: Tensor, threads: int) -> Run:
        session = _session(self.model, threads)
        return Run(partial(session.run, None, {"x": x.numpy()}), _first)


def _first(found: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(found[0])


def _session(model: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin on after a run would slow down whichever engine has the next turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _model(nodes: list[Any], constants: Arrays, shape: tuple[int, ...]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    rows, columns = shape
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, rows])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=IR).SerializeToString()
    return made


def _float(weight: np.ndarray, bias: np.ndarray, scheme: Scheme, x: Tensor) -> Graph:
    from onnx.helper import make_node

    del scheme, x
    return [make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)], {"w": weight, "b": bias}


def _dynamic(weight: np.ndarray, bias: np.ndarray, scheme: Scheme, x: Tensor) -> Graph:
    from onnx.helper import make_node

    del scheme, x
    names = ["x", "w", "scale", "point", "b"]
    node = make_node("DynamicQuantizeMatMul", names, ["y"], domain="com.microsoft")
    return [node], _int8_columns(weight, bias)


def _static(weight: np.ndarray, bias: np.ndarray, scheme: Scheme, x: Tensor) -> Graph:
    from onnx.helper import make_node

    del scheme
    numbers = ["x_scale", "x_point"]
    nodes = [
        make_node("QuantizeLinear", ["x", *numbers], ["q"]),
        make_node("DequantizeLinear", ["q", *numbers], ["rounded"]),
        make_node("DequantizeLinear", ["w", "scale", "point"], ["weight"], axis=1),
        make_node("MatMul", ["rounded", "weight"], ["product"]),
        make_node("Add", ["product", "b"], ["y"]),
    ]
    low, high = min(x.min().item(), 0), max(x.max().item(), 0)
    step = (high - low) / 255
    constants = _int8_columns(weight, bias)
    constants["x_scale"] = np.array(step, np.float32)
    constants["x_point"] = np.array(round(-low / step), np.uint8)
    return nodes, constants


def _int8_columns(weight: np.ndarray, bias: np.ndarray) -> Arrays:
    values, scale = per_channel(weight)
    point = np.zeros(len(scale), np.int8)
    columns = np.ascontiguousarray(values.T)
    return {"w": columns, "scale": scale.ravel(), "point": point, "b": bias}


def _nbits(weight: np.ndarray, bias: np.ndarray, scheme: Scheme, x: Tensor) -> Graph:
    from onnx.helper import make_node

    del x
    rows, columns = weight.shape
    size = scheme.group_size or 128  # it knows no scale per channel
    found = grouped(weight, scheme.bits, size)
    node = make_node(
        "MatMulNBits",
        ["x", "w", "scale", "point", "", "b"],
        ["y"],
        domain="com.microsoft",
        K=columns,
        N=rows,
        bits=scheme.bits,
        block_size=size,
        accuracy_level=4 if scheme.activations != "float" else 1,
    )
    constants: Arrays = {
        "w": found.packed,
        "scale": found.scale.squeeze(-1),
        "point": pack(found.zero_point.squeeze(-1), scheme.bits),
        "b": bias,
    }
    return [node], constants


_graphs: Mapping[str, Callable[[np.ndarray, np.ndarray, Scheme, Tensor], Graph]] = {
    "float": _float,
    "w8a8": _dynamic,
    "w8a8-static": _static,
    "w8": _nbits,
    "w4": _nbits,
    "w4a8": _nbits,
    "w2a8": _nbits,
}


def _export(model: nn.Module, inputs: Inputs, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _HiddenStates(model).eval(),  # or exporting would leave `model` in training mode
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=["y"],
            dynamo=False,  # what quantize_dynamic knows best, and needs no onnxscript
            opset_version=17,
        )


class _HiddenStates(nn.Module):
    """An encoder with positional inputs and one output, as exporters like it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
