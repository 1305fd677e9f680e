"""The view of a comparison of trainers: what one chooses is drawn and listed, and nothing else."""

import re

import pytest

from tests.bench.made_report import made_report
from workbench import WorkbenchError
from workbench.bench.training_chart import PAGE, ink
from workbench.widgets import TrainerView


def page(view: TrainerView) -> str:
    return view.children[1].value


def test_every_run_is_shown_with_its_verdict() -> None:
    view = TrainerView(made_report())
    assert view.names == ("bf16", "compile", "heap")
    assert page(view).count("<polyline") == 5  # with two of transformers'
    assert "<td>worse by 0.2000</td>" in page(view)
    assert "<td>0.40</td>" in page(view)  # what compiling took counted in
    assert "<li>Did not run: packing. All rows have one length.</li>" in page(view)
    assert "A model &amp; its rows" in page(view)


def test_a_choice_leaves_colours_as_they_were() -> None:
    view = TrainerView(made_report())
    colour = ink(2)[0]  # of the third
    view.choice.value = ("heap",)
    assert view.names == ("heap",)
    assert re.findall(r'<polyline points="[^"]*" fill="none" stroke="([^"]+)"', page(view)) == [
        PAGE.grey, PAGE.grey, colour,
    ]  # fmt: skip
    assert ">bf16</th>" not in page(view)
    assert page(view).count(">transformers, seed") == 2
    view.names = ()
    assert page(view).count("<polyline") == 2
    with pytest.raises(WorkbenchError, match="no run 'warp'; allowed: bf16, compile, heap"):
        view.names = ("warp",)
    assert view.names == ()


def test_a_longer_mean_has_fewer_points() -> None:
    view = TrainerView(made_report())
    counts = []
    for steps in (1, 2):
        view.mean.value = steps
        points = re.search(r'<polyline points="([^"]*)"', page(view)).group(1)
        counts.append(len(points.split()))
    assert counts == [4, 3]
    with pytest.raises(WorkbenchError, match="a mean of 9 steps; allowed: 1 to 2"):
        view.smoothed = 9
