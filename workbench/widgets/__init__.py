"""Views over a session for JupyterLab, Voila and every other host of widgets; needs `[lab]`."""

try:
    import anywidget as _anywidget  # noqa: F401
except ModuleNotFoundError as problem:
    raise ImportError(
        "the widgets need anywidget, which is not installed; run "
        "`pip install 'quantization-workbench[lab]'`, or use the functions and the command line."
    ) from problem

from workbench.garbage import uncollected

with uncollected():
    from workbench.widgets._host import served
    from workbench.widgets.alpha_explorer import AlphaExplorer
    from workbench.widgets.bench import Workbench
    from workbench.widgets.bits_editor import BitsEditor
    from workbench.widgets.calibration_panel import CalibrationPanel
    from workbench.widgets.chat_view import ChatView
    from workbench.widgets.code_view import CodeView
    from workbench.widgets.comparison_view import ComparisonView
    from workbench.widgets.dock import dock
    from workbench.widgets.exercise import Exercise
    from workbench.widgets.layer_table import LayerTable
    from workbench.widgets.line_chart import LineChart
    from workbench.widgets.model_card import ModelCard
    from workbench.widgets.outlier_view import OutlierView
    from workbench.widgets.report_card import ReportCard
    from workbench.widgets.stepper import Stepper
    from workbench.widgets.trainer_view import TrainerView
    from workbench.widgets.training_panel import TrainingPanel
    from workbench.widgets.waterfall_view import WaterfallView

__all__ = [
    "AlphaExplorer",
    "BitsEditor",
    "CalibrationPanel",
    "ChatView",
    "CodeView",
    "ComparisonView",
    "Exercise",
    "LayerTable",
    "LineChart",
    "ModelCard",
    "OutlierView",
    "ReportCard",
    "Stepper",
    "TrainerView",
    "TrainingPanel",
    "WaterfallView",
    "Workbench",
    "dock",
    "served",
]
