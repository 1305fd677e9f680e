"""On CI a skipped browser or data test fails the run; elsewhere it is skipped like any other."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SKIPPED_ITSELF = (
    "import pytest\n@pytest.mark.browser\ndef test_it():\n    pytest.skip('no browser')\n"
)
SKIPPED_WHOLE = "import pytest\npytest.skip('no data', allow_module_level=True)\n"
SKIPPED_OTHER = "import pytest\n@pytest.mark.slow\ndef test_it():\n    pytest.skip('no time')\n"


@pytest.mark.parametrize(
    "workers", [pytest.param([], id="here"), pytest.param(["-p", "xdist", "-n", "2"], id="workers")]
)
@pytest.mark.parametrize(
    ("source", "must_run", "succeeds"),
    [
        pytest.param(SKIPPED_ITSELF, "browser data", False, id="a browser test"),
        pytest.param(SKIPPED_WHOLE, "browser data", False, id="a whole file"),
        pytest.param(SKIPPED_OTHER, "browser data", True, id="another test"),
        pytest.param(SKIPPED_ITSELF, "", True, id="not on CI"),
    ],
)
def test_skips(
    source: str, must_run: str, succeeds: bool, workers: list[str], tmp_path: Path
) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    browser:\n    slow:\n")
    (tmp_path / "test_passes.py").write_text("def test_passes():\n    pass\n")
    (tmp_path / "test_skips.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *workers, str(tmp_path)],
        env={
            **os.environ,
            "WORKBENCH_NO_SKIP": must_run,
            "PYTEST_ADDOPTS": "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # quicker
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode == 0) is succeeds, done.stdout
    assert ("SKIPPED WHERE IT MUST RUN" in done.stdout) is not succeeds
    assert "1 passed, 1 skipped" in done.stdout
