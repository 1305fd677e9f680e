"""The description of the machine and the versions."""

import json

import torch
import transformers

from workbench.compare import machine, versions


def test_machine_is_plain_data() -> None:
    found = machine()
    assert json.loads(json.dumps(found)) == found
    assert found["threads"] == torch.get_num_threads()
    assert found["cores"] >= 1
    assert found["processor"]


def test_versions_are_the_imported_ones() -> None:
    found = versions()
    assert found["torch"] == torch.__version__
    assert found["transformers"] == transformers.__version__
