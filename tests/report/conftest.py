"""One real report, made once: pylm in int8 on a few documents."""

import pytest

import workbench as wb


@pytest.fixture(scope="session")
def made() -> wb.Report:
    return wb.report("pylm", limit=8)
