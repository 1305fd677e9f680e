"""Measurements that take too long, or too much of a machine, to be tests."""

from workbench.bench.memory import MemoryRow, measure_memory

__all__ = ["MemoryRow", "measure_memory"]
