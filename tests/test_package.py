"""What is in the package, what `import workbench` gives, and what it does not load."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
NOT_ON_A_PAGE = {
    "transformers.modeling_utils": "two seconds, while the page is drawn already",
    "transformers.trainer": "whoever trains waits for it",
    "torch._dynamo": "whoever compiles waits for it",
    "sympy": "whoever compiles waits for it",
    "pyarrow": "it reserves half of what a kernel may allocate",
    "scipy.optimize": "a quarter of a second; scipy loads its parts when they are used",
    "scipy.stats": "a second; scipy loads its parts when they are used",
    "pandas": "no view shows a data frame",
    "matplotlib": "the pictures are drawn in the browser",
    "torchao": "a peer to compare with, and half a second",
}


def python(code: str) -> str:
    """Run `code` in a fresh interpreter on the installed package; return what it prints."""
    return subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120, check=True
    ).stdout


def test_importing_loads_neither_torch_nor_transformers() -> None:
    loaded = python("import sys, workbench; print(*sys.modules)").split()
    assert "workbench" in loaded
    assert not {"torch", "transformers", "ipywidgets"} & set(loaded)


def test_the_core_loads_no_widgets() -> None:
    loaded = python(
        "import sys, workbench as wb; [getattr(wb, name) for name in wb.__all__]; "
        "print(*sys.modules)"
    ).split()
    assert "torch" in loaded
    assert not {"ipywidgets", "anywidget", "jupyterlab"} & set(loaded)


def test_a_page_waits_for_nothing_that_it_does_not_show() -> None:
    loaded = python("import sys, workbench.widgets; print(*sys.modules)").split()
    assert "torch" in loaded
    assert {name: why for name, why in NOT_ON_A_PAGE.items() if name in loaded} == {}


def test_imports_are_not_interrupted_to_look_for_garbage() -> None:
    """Full collections took a third of the time."""
    count = "gc.get_stats()[2]['collections']"
    code = f"import gc; a = {count}; import workbench.widgets; print({count} - a, gc.isenabled())"
    assert python(code).split() == ["0", "True"]


@pytest.mark.parametrize("first", ["Session", "smooth", "load", "Recipe"])
def test_verbs_are_functions_whatever_was_imported_before(first) -> None:
    """A subpackage of the same name must not take the function's place."""
    code = (
        f"import workbench as wb; wb.{first}\n"
        "import workbench.session, workbench.compare, workbench.observe\n"
        "print(*(callable(f) for f in (wb.compare, wb.observe, wb.smooth, wb.quantize)))"
    )
    assert python(code).split() == ["True"] * 4


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
def test_with_a_compiler_the_native_kernels_are_there_and_used() -> None:
    """Falling back to torch must not hide a build that broke."""
    code = (
        "import torch, workbench as wb\n"
        "from workbench.ops import native\n"
        "print(native.status().problem)\n"
        "tokens = wb.QuantArgs(granularity='token', dynamic=True)\n"
        "model = torch.nn.Sequential(torch.nn.Linear(64, 32))\n"
        "wb.quantize(model, weights=wb.QuantArgs(dtype='int4'), activations=tokens)\n"
        "wb.freeze(model)\n"
        "model(torch.ones(3, 64))\n"
        "print(model[0].op)"
    )
    assert python(code).split() == ["None", "a8_linear_native"]


@pytest.fixture(scope="module")
def pure_wheel(tmp_path_factory) -> Path:
    """The wheel that a machine without a C++ compiler builds."""
    folder = tmp_path_factory.mktemp("wheel")
    environment = os.environ | {"CXX": str(folder / "no-such-compiler")}
    environment.pop("SKBUILD_WHEEL_CMAKE", None)  # .ci/run insists on kernels; here are none
    command = ["pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT]
    subprocess.run([sys.executable, "-m", *command], env=environment, timeout=300, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_without_a_compiler_the_package_is_whole_but_for_the_kernels(pure_wheel) -> None:
    assert pure_wheel.name.endswith("-py3-none-any.whl")
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "workbench").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }
    notebooks = {
        f"workbench/notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")
    }
    launcher = "share/jupyter/jupyter_app_launcher"
    for_jupyter = {
        f"{place}/{path.relative_to(folder).as_posix()}"
        for place, folder in (
            ("share/jupyter/kernels/workbench", ROOT / "kernels/kernelspec"),
            (launcher, ROOT / "jupyter"),
        )
        for path in folder.rglob("*")
        if path.is_file()
    }
    for_jupyter |= {
        f"{launcher}/notebooks/{name}.ipynb"
        for name in ("workbench", "outlier_smoothing", "report_card")
    }
    with ZipFile(pure_wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    data = {name for name in names if ".data/data/" in name}
    assert names - data == package | notebooks
    assert {name.partition(".data/data/")[2] for name in data} == for_jupyter


def test_without_kernels_layers_run_on_torch_and_the_doctor_says_so(pure_wheel, tmp_path) -> None:
    with ZipFile(pure_wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys, torch, workbench as wb\n"
        "model = torch.nn.Sequential(torch.nn.Linear(64, 32))\n"
        "x = torch.randn(3, 64)\n"
        "exact = model(x)\n"
        "wb.quantize(model, weights=wb.qint8)\n"
        "wb.freeze(model)\n"
        "print(wb.__file__, (model(x) - exact).abs().max() < 0.05, model[0].op)\n"
        "from workbench.cli import main\n"
        "main(['doctor'])"
    )
    # Without `site` no editable installation comes first.
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), sysconfig.get_path("purelib")])
    }
    text = subprocess.run(
        [sys.executable, "-P", "-S", "-c", code],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    first, *report = text.splitlines()
    where, close, op = first.split()
    assert Path(where).is_relative_to(tmp_path)
    assert close == "tensor(True)"
    assert not op.endswith("_native")
    assert "no native kernels: install a C++ compiler" in " ".join(report)
