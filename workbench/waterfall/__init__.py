"""Smaller by design: distil, prune, quantize, and what each step brought, as measured."""

from pathlib import Path

from workbench.waterfall.document import Instances, Row, Waterfall

SST2 = Path(__file__).parent / "sst2.json"
"""The figures of a full run: minilm fine-tuned on SST-2, distilled, pruned and quantized."""

__all__ = ["SST2", "Instances", "Row", "Waterfall"]
