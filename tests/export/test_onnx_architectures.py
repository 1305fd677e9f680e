"""Models of every modality as ONNX: the engine's outputs are torch's, and int8 is our int8."""

import pytest
import torch
from zoo import ZOO

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.export import export
from workbench.export.onnx import FILE
from workbench.metrics import sqnr_db
from workbench.quant import Calibration, freeze, quantize

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

FLOAT = 110  # dB; float32 in another order of sums leaves 127 to 137 here

ARCHITECTURES = {
    "text encoder": "bert",
    "text encoder, relative positions": "deberta_v2",
    "text decoder": "llama",
    "mixture of experts": "mixtral",
    "state space": "mamba",
    "text to text": "t5",
    "images": "vit",
    "images, convolutions": "convnext",
    "speech to text": "whisper",
    "audio": "wav2vec2",
    "text and images": "clip",
    "diffusion": "dit",
}
SLOW_TO_TRACE = {"mixtral", "mamba", "t5", "convnext", "dit"}  # 8 to 12 s each, the others 3 to 6
CASES = [
    pytest.param(name, id=what, marks=[pytest.mark.exhaustive] * (name in SLOW_TO_TRACE))
    for what, name in ARCHITECTURES.items()
]


def more_rows(case):
    """Another batch than the one that was traced, of three rows and not two."""
    [_, batch] = case.batches(2)
    return {name: torch.cat([value, value[:1]]) for name, value in batch.items()}


def first(outputs):
    """The first tensor that a model gives."""
    return next(value for value in dict(outputs).values() if torch.is_tensor(value))


def in_engine(folder, inputs):
    session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return torch.from_numpy(found[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_engine_gives_what_torch_gives(tmp_path, name) -> None:
    case = ZOO[name]
    model = case.model()
    export(model, tmp_path / "out", format="onnx", example=case.batches(1)[0])
    inputs = more_rows(case)
    with torch.no_grad():
        want = first(model(**inputs))
    if name == "dit":  # of diffusers, which has no loader of such files
        got = in_engine(tmp_path / "out", inputs)
    else:  # in the place of the torch model
        got = first(wb.load(tmp_path / "out").model(**inputs))
    assert got.shape == want.shape
    assert sqnr_db(want, got) > FLOAT


def with_layers_as_outputs(path, names):
    """The inputs and outputs of these linear layers in a QDQ graph, added to what it gives."""
    graph = onnx.load(path)
    maker = {out: node for node in graph.graph.node for out in node.output}
    readers = {one: node for node in graph.graph.node for one in node.input}
    found = {}
    for name in names:
        product = readers[readers[f"{name}.weight.values"].output[0]]
        quantized = maker[maker[product.input[0]].input[0]]
        biased = readers[product.output[0]]
        assert (product.op_type, quantized.op_type) == ("MatMul", "QuantizeLinear")
        assert f"{name}.bias" in biased.input
        found[name] = quantized.input[0], biased.output[0]
    given = {output.name for output in graph.graph.output}
    for value in {one for pair in found.values() for one in pair} - given:
        graph.graph.output.append(onnx.ValueInfoProto(name=value))
    onnx.save(graph, path.with_name("layers.onnx"))
    return path.with_name("layers.onnx"), found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "vit"])
def test_each_int8_layer_is_ours_to_one_rounding(tmp_path, name) -> None:
    """Given the engine's own input, so that layers do not add up.

    A value between two integers may go to either, which moves an output by one step of the input
    times a weight; where none does, only float32's rounding is left: above 100 dB.
    """
    case = ZOO[name]
    model = case.model()
    quantize(model, "int8", "int8", exclude=("*projection", "cls.*decoder"))
    with torch.no_grad(), Calibration(model):
        for batch in case.batches(3):
            model(**batch)
    freeze(model)
    export(model, tmp_path / "out", format="onnx", example=case.batches(1)[0])
    names = [n for n, one in model.named_modules() if isinstance(one, wb.QLinear)]
    path, places = with_layers_as_outputs(tmp_path / "out" / FILE, names)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = more_rows(case)
    wanted = [value for pair in places.values() for value in pair]
    given = {name: value.numpy() for name, value in inputs.items()}
    values = dict(zip(wanted, map(torch.from_numpy, session.run(wanted, given)), strict=True))
    assert len(names) >= 12
    exact = 0
    for layer, (x, y) in places.items():
        module = model.get_submodule(layer)
        with torch.no_grad():
            ours = module(values[x])
        step = module.input_scale * module.weight.dequantize().abs().amax(1)
        assert ((values[y] - ours).abs() <= step).all()
        exact += sqnr_db(ours, values[y]) > 100
    assert exact > len(names) / 2
    with torch.no_grad():
        assert sqnr_db(first(model(**inputs)), in_engine(tmp_path / "out", inputs)) > 40


def test_what_the_exporter_refuses_is_named_and_leaves_no_file(tmp_path) -> None:
    """ONNX has no operator for the experts' quantized products."""
    case = ZOO["mixtral"]
    model = case.model()
    quantize(model, "int8")
    freeze(model)
    with pytest.raises(WorkbenchError, match=r"experts is a quantized .*: quantize with exclude="):
        export(model, tmp_path / "out", format="onnx", example=case.batches(1)[0])
    assert list(tmp_path.iterdir()) == []
