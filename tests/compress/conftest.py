"""Lets the tests of this folder use the tiny models of many architectures."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "quant"))  # for zoo.py
