"""What the model card says of a model that is not loaded yet."""

import subprocess
import sys
import time

from huggingface_hub.errors import OfflineModeIsEnabled

from workbench.widgets import ModelCard


def eventually(condition) -> bool:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


def test_needs_are_told_before_loading(session) -> None:
    card = ModelCard(session)
    assert eventually(lambda: card.needs)
    assert session.loaded is None
    assert card.needs["name"] == "pylm"
    assert card.needs["bytes"]["fp32"] == 4 * card.needs["parameters"]
    assert card.needs["fits"] is True


def test_what_cannot_be_estimated_is_said_beside_and_is_no_failure(session, monkeypatch) -> None:
    def offline(_):
        raise OfflineModeIsEnabled

    monkeypatch.setattr("workbench.models.estimate.get_safetensors_metadata", offline)
    card = ModelCard(session)
    card.set_state({"name": "nobody/nothing-at-all"})
    assert eventually(lambda: "reason" in card.needs)
    assert "nobody/nothing-at-all" in card.needs["reason"]
    assert card.error == ""
    card.set_state({"name": "not a model"})
    assert eventually(lambda: "there is no model 'not a model'" in card.needs.get("reason", ""))
    card.set_state({"name": "pylm-outliers"})
    assert eventually(lambda: card.needs.get("name") == "pylm-outliers")


ENDS_AT_ONCE = """
import torch
from workbench import Session
from workbench.widgets import ModelCard

class Slow(ModelCard):
    def estimate(self):
        product = torch.eye(64)
        for _ in range(5000):
            product = product @ product
        print("estimated")
        return super().estimate()

Slow(Session("pylm"))
"""


def test_a_script_that_ends_while_a_card_estimates_ends_cleanly() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS_AT_ONCE],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "estimated\n", "")
