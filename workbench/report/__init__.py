"""A report that a person can hand over: one page, and the same as JSON."""

from workbench.report.document import Input, Report
from workbench.report.measure import report
from workbench.report.page import page, save_page

__all__ = ["Input", "Report", "page", "report", "save_page"]
