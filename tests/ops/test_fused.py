"""What is said of the ops of compiled models."""

import torch

from workbench import ops
from workbench.ops import fused, native


def test_every_native_op_is_listed_and_none_that_is_not_there():
    defined = {
        name.removeprefix("workbench::")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("workbench::") and name.endswith("_native")
    }
    of_layers = {one.name for one in ops.implementations if one.name.endswith("_native")}
    assert defined == of_layers | fused.FUSED.keys()


def test_the_level_is_named_or_what_keeps_them_away(monkeypatch):
    monkeypatch.setattr(native, "status", lambda: native.Native(None, None, "avx2"))
    assert all(runs and reason.endswith("(avx2)") for _, runs, reason in fused.report())
    monkeypatch.setattr(native, "status", lambda: native.Native(None, "nothing built"))
    assert [row[1:] for row in fused.report()] == [(False, "nothing built")] * len(fused.FUSED)
