"""Quantization-aware training lowers a real loss, and freezing keeps exactly what it reached."""

import copy

import pytest
import torch
from torch import nn

import workbench as wb
from workbench import metrics
from workbench.errors import WorkbenchError
from workbench.train import qat

TERNARY = wb.QuantArgs(dtype="int2", granularity="channel")


@pytest.fixture(scope="module")
def pylm():
    return wb.load("pylm")


def divergence(lm, model, batches) -> float:
    """KL from the float model on `batches`, in nats a token."""
    with torch.no_grad():
        each = [metrics.kl_divergence(lm.model(**b).logits, model(**b).logits) for b in batches]
    return torch.cat([kl.flatten() for kl in each]).mean().item()


@pytest.mark.slow
def test_training_recovers_an_int2_language_model_on_held_out_code(pylm) -> None:
    held_out = pylm.batches("evaluation", samples=16)
    model = pylm.copy()
    before = {name: p.clone() for name, p in pylm.model.named_parameters()}
    wb.quantize(model, TERNARY)
    naive = divergence(pylm, model, held_out)
    data = pylm.batches("calibration", length=128, batch_size=4)
    curve = wb.finetune(model, data, steps=30, learning_rate=3e-4, teacher=pylm.model)
    trained = divergence(pylm, model, held_out)
    wb.freeze(model)
    assert divergence(pylm, model, held_out) == trained  # to the last bit
    assert trained < 0.7 * naive
    assert len(curve.losses) == 30
    assert sum(curve.losses[-5:]) < 0.7 * sum(curve.losses[:5])
    for name, parameter in pylm.model.named_parameters():
        assert torch.equal(parameter, before[name]), f"{name} of the float model was harmed"


def tiny() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


class Named(nn.Module):
    """A model that takes keywords and gives its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.body = tiny()

    def forward(self, x, labels=None):
        from transformers.modeling_outputs import SequenceClassifierOutput

        logits = self.body(x)
        loss = nn.functional.cross_entropy(logits, labels) if labels is not None else None
        return SequenceClassifierOutput(loss=loss, logits=logits)


class Reader(Named):
    """A model that reads the weight of one layer and never calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(8, 8, bias=False)

    def forward(self, x, labels=None):
        return super().forward(x @ self.read.weight.T, labels)


def batches() -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    return [{"x": torch.randn(6, 8), "labels": torch.randint(0, 4, (6,))} for _ in range(3)]


def test_the_gradient_of_a_scale_is_the_one_of_lsq() -> None:
    """Esser et al. 2020, equation 3: round(v) - v inside the range, its ends outside."""
    model = nn.Sequential(nn.Linear(4, 1, bias=False))
    model[0].weight.data = torch.tensor([[0.31, -0.87, 0.05, 2.0]])
    wb.quantize(model, wb.QuantArgs(dtype="int4", granularity="channel"))
    [scale] = wb.learn_scales(model)
    with torch.no_grad():
        scale.fill_(0.25)  # int4 ends at 7 * 0.25 = 1.75, below the last weight
    x = torch.tensor([[1.0, 2.0, 3.0, 5.0]])
    model(x).sum().backward()
    v = model[0]._parameters["weight"].detach() / 0.25
    by_weight = torch.where(v > 7, torch.full_like(v, 7), v.round() - v)
    assert scale.grad.item() == pytest.approx((by_weight * x).sum().item(), rel=1e-5)
    expected = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    torch.testing.assert_close(model[0]._parameters["weight"].grad, expected)


@pytest.mark.parametrize("activations", [None, "int8"])
def test_any_torch_loop_can_train_the_scales(activations) -> None:
    model = Named()
    wb.quantize(model, TERNARY, activations)
    if activations:
        with torch.no_grad(), wb.Calibration(model):
            model(batches()[0]["x"])
    scales = wb.learn_scales(model)
    assert len(scales) == (2 if activations is None else 4)
    start = [s.detach().clone() for s in scales]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for batch in batches():
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(start, scales, strict=True))
    trained = model(batches()[0]["x"]).logits
    wb.freeze(model)
    torch.testing.assert_close(model(batches()[0]["x"]).logits, trained, rtol=1e-5, atol=1e-6)
    assert not any("scale" in name for name, _ in model.named_parameters())


def test_without_a_teacher_the_loss_is_the_models_own() -> None:
    model = Named()
    wb.quantize(model, TERNARY)
    own = model(**batches()[0]).loss.item()
    curve = wb.finetune(model, [batches()[0]], steps=1)
    assert curve.losses[0] == pytest.approx(own)
    assert curve.quantity == "cross entropy"


def test_the_same_seed_gives_the_same_curve() -> None:
    curves = []
    for seed in (0, 0, 1):
        model = Named()
        wb.quantize(model, TERNARY)
        curves.append(wb.finetune(model, batches(), steps=7, seed=seed).losses)
    assert curves[0] == curves[1] != curves[2]


def test_the_parameters_kept_are_the_best_on_batches_that_were_not_trained_on() -> None:
    """Training on labels that are wrong for the held-out batch leaves the model as it was."""
    right = batches()[0]
    wrong = right | {"labels": (right["labels"] + 1) % 4}
    for shown, harmful in ((wrong, True), (right, False)):
        data = [shown, shown, right]
        model = Named()
        wb.quantize(model, TERNARY)
        watched = []
        before = qat._loss(model, data[-1], None).item()
        curve = wb.finetune(
            model,
            data,
            steps=20,
            learning_rate=1e-2,
            held_out=1,
            watch=lambda losses, held_out, seen=watched: seen.append((len(losses), dict(held_out))),
        )
        assert curve.held_out[0] == pytest.approx(before, rel=1e-5)
        assert curve.held_out[curve.kept] == min(curve.held_out.values())
        assert (curve.kept == 0) == harmful
        model.eval()
        with torch.no_grad():
            found = qat._loss(model, data[-1], None).item()
        assert found == pytest.approx(curve.held_out[curve.kept], rel=1e-5)
        assert [step for step, _ in watched] == list(range(1, 21))
        assert watched[-1][1] == curve.held_out
        assert 20 in curve.held_out


def test_refusals_come_before_any_training() -> None:
    model = Named()
    with pytest.raises(WorkbenchError, match="no quantized module"):
        wb.finetune(model, batches())
    wb.quantize(model, TERNARY, "int8")
    weight = model.body[0]._parameters["weight"]
    with pytest.raises(WorkbenchError, match=r"body\.0 was never calibrated"):
        wb.finetune(model, batches())
    for bad in ({"steps": 0}, {"learning_rate": float("nan")}, {"learning_rate": -1.0}):
        with pytest.raises(WorkbenchError, match=next(iter(bad))):
            wb.finetune(model, batches(), **bad)
    with pytest.raises(WorkbenchError, match="no batches"):
        wb.finetune(model, [])
    with pytest.raises(WorkbenchError, match="one is left to train on"):
        wb.finetune(model, batches(), held_out=len(batches()))
    assert model.body[0]._parameters["weight"] is weight
    wb.freeze(model, uncalibrated="dynamic")
    with pytest.raises(WorkbenchError, match=r"body\.0 is frozen"):
        wb.finetune(model, batches())


def test_a_loss_that_explodes_is_told() -> None:
    model = Named()
    wb.quantize(model, TERNARY)
    broken = [{"x": torch.full((2, 8), float("nan")), "labels": torch.zeros(2, dtype=torch.long)}]
    with pytest.raises(WorkbenchError, match="the loss became nan after 0 steps"):
        wb.finetune(model, broken)


def test_shared_parameters_stay_shared_and_the_original_unharmed() -> None:
    float_model = Named()
    kept = copy.deepcopy(float_model.state_dict())
    model = Named()
    model.load_state_dict(kept)
    model.body[0].weight = float_model.body[0].weight  # as `LoadedModel.copy` shares them
    wb.quantize(model, TERNARY)
    wb.finetune(model, batches(), steps=3, learning_rate=0.01)
    assert all(torch.equal(v, kept[k]) for k, v in float_model.state_dict().items())


@pytest.mark.parametrize("activations", [None, "int8"])
def test_a_weight_that_is_only_read_learns_with_its_rounding(activations):
    model = Reader()
    plain = model.read.weight
    wb.quantize(model, "int4", activations)
    assert model.read.weight is plain
    if activations:
        with torch.no_grad(), wb.Calibration(model):
            model(batches()[0]["x"])
        model.read.activations = None  # that no calibration can reach
    before = model.read._parameters["weight"].detach().clone()
    wb.finetune(model, batches(), steps=6, learning_rate=1e-2)
    assert not torch.equal(model.read._parameters["weight"], before)
    assert "weight_scale" in dict(model.read.named_parameters())
    rounded = model.read.weight
    x = batches()[0]["x"]
    with torch.no_grad():
        trained = model(x).logits
    wb.freeze(model)
    assert torch.equal(model.read.weight.dequantize(), rounded)
    with torch.no_grad():
        torch.testing.assert_close(model(x).logits, trained)
