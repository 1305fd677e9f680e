"""Fixtures for transformers' own ways with models of ours."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for hf_runs.py


@pytest.fixture
def folder(tiny_llama, tmp_path):
    """The float checkpoint of the tiny Llama."""
    tiny_llama.save_pretrained(tmp_path / "float")
    return tmp_path / "float"
