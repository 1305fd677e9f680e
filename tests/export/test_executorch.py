"""ExecuTorch programs, run by its runtime on other shapes than they were traced with."""

import pytest
import torch

import workbench as wb
from tests.train.helpers import tiny_bert
from workbench.errors import WorkbenchError
from workbench.export import export
from workbench.export.base import Job
from workbench.export.executorch import ExecuTorch
from workbench.metrics import sqnr_db


def batch(rows: int, columns: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 50, (rows, columns), generator=torch.Generator().manual_seed(rows))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.slow
def test_the_runtime_gives_what_torch_gives(tmp_path) -> None:
    pytest.importorskip("executorch", reason="its package brings much that nothing else needs")
    model = tiny_bert().eval()
    export(model, tmp_path / "out", format="executorch")
    loaded = wb.load(tmp_path / "out")
    assert loaded.kind == "classifier"
    for shape in ((2, 8), (1, 5), (3, 11)):
        inputs = batch(*shape)
        with torch.no_grad():
            assert sqnr_db(model(**inputs).logits, loaded.model(**inputs).logits) > 100


def test_what_its_kernels_do_not_hold_is_named() -> None:
    model = tiny_bert()
    wb.quantize(model, "int8", include="*query")
    wb.freeze(model)
    with pytest.raises(WorkbenchError, match=r"query is quantized; .* export the float model"):
        ExecuTorch().check(Job(model))
    with pytest.raises(WorkbenchError, match="Linear is none of its models"):
        ExecuTorch().check(Job(torch.nn.Linear(2, 2)))
