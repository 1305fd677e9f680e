"""Lets the tests of this folder import the files they share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for zoo.py
