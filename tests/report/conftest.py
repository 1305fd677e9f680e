"""One real report, made once: pylm in int8 on a few documents."""

from importlib import import_module

import pytest

import workbench as wb


@pytest.fixture(scope="session")
def recipe() -> wb.Recipe:
    return wb.Recipe(model="pylm").with_calibration(samples=8)


@pytest.fixture(scope="session")
def made(recipe) -> wb.Report:
    with pytest.MonkeyPatch.context() as shorter:  # what is measured matters here, not how surely
        shorter.setattr(import_module("workbench.session.build"), "EVALUATION_SAMPLES", 8)
        shorter.setattr(import_module("workbench.scoreboard.judge"), "RUNS", 2)
        return wb.report(recipe, limit=8)
