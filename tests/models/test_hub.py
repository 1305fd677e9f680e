"""Hub ids: each thing that may go wrong is one clear sentence, at once."""

import os
import subprocess
import sys
import textwrap
import time

import pytest
from huggingface_hub import errors

from workbench.errors import WorkbenchError
from workbench.models import hub, load


def answer(kind):
    """An error as the hub's client raises it, from an answer with that status."""
    http = pytest.importorskip(errors.HfHubHTTPError.__mro__[1].__module__.split(".")[0])
    request = http.Request("GET", "https://hub.example/api/models/org/model")
    return kind("refused", response=http.Response(403, request=request))


def caused(error, cause):
    error.__cause__ = cause
    return error


CASES = {
    "gated": (lambda: answer(errors.GatedRepoError), r"gated: accept its terms.*hf auth login"),
    "gated, told by another": (
        lambda: caused(OSError("cannot load"), answer(errors.GatedRepoError)),
        r"gated",
    ),
    "missing": (lambda: answer(errors.RepositoryNotFoundError), r"no model org/model.*spelling"),
    "no network": (
        lambda: errors.LocalEntryNotFoundError("nothing cached"),
        r"not in the cache and the hub cannot be reached",
    ),
    "switched off": (
        lambda: caused(
            errors.LocalEntryNotFoundError("nothing cached"), errors.OfflineModeIsEnabled("off")
        ),
        r"HF_HUB_OFFLINE",
    ),
    "no space": (lambda: OSError(28, "No space left on device"), r"no space left.*HF_HOME"),
    "a time-out": (TimeoutError, r"does not answer"),
    "anything else": (lambda: ValueError("odd\nthing"), r"org/model cannot be loaded: odd thing"),
}


@pytest.mark.parametrize(("make", "sentence"), CASES.values(), ids=CASES)
def test_what_went_wrong_is_one_sentence(monkeypatch, make, sentence):
    def fail(*_args, **_kwargs):
        raise make()

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(WorkbenchError, match=sentence) as caught:
        load("org/model")
    assert "\n" not in str(caught.value)
    assert "org/model" in str(caught.value)


@pytest.mark.parametrize("offline", ["1", ""])
def test_without_a_network_it_is_said_at_once(tmp_path, offline):
    """Nobody listens on port 9; the client itself finds that out, nothing is simulated."""
    code = """
        import time
        from workbench.models import load
        from workbench.errors import WorkbenchError
        start = time.monotonic()
        try:
            load("org/model")
        except WorkbenchError as error:
            print(error)
        assert time.monotonic() - start < 10
    """
    changed = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    start = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | changed | {"HF_HUB_OFFLINE": offline, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert time.monotonic() - start < 60
    wanted = "switched off" if offline else "cannot be reached"
    assert wanted in ran.stdout


def test_what_is_in_the_cache_is_used(tiny_llama, tmp_path, monkeypatch):
    tiny_llama.save_pretrained(tmp_path)
    asked = {}

    def give(name, **how):
        asked.update(how, name=name)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", give)
    found = load("org/model")
    assert found.name == asked["name"] == "org/model"
    assert not any(pattern.endswith((".bin", ".py")) for pattern in asked["allow_patterns"])
