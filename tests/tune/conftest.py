"""The architectures of the quant tests are ours to tune too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "quant"))
