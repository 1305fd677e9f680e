"""The page of a report: one HTML file that needs no other, no script and no network."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from workbench.models.atomic import write_text
from workbench.report import pictures
from workbench.report.document import Report
from workbench.report.elsewhere import told
from workbench.scoreboard import ratio

TEMPLATE = "report.html.j2"


def page(report: Report) -> str:
    """Render `report`; every text in it is escaped.

    Its head says so where the figures are of another machine, or other versions, than are here.
    """
    environment = Environment(
        loader=PackageLoader("workbench.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ran = Counter((layer.op, layer.op_reason) for layer in report.plan.layers)
    return environment.get_template(TEMPLATE).render(
        report=report,
        notices=[*told(report.machine, report.versions), *report.notices],
        errors={layer.name: layer.sqnr_db for layer in report.comparison.layers},
        found=report.comparison.model_dump(exclude={"layers"}, exclude_none=True),
        ran=ran,
        recipe=json.dumps(report.judged.recipe, indent=2),
        ratio=ratio,
        slower=list(_slower(report)),
        pictures=pictures,
    )


def _slower(report: Report) -> Iterator[str]:
    """Say where quantization made the model slower: that must not pass in silence."""
    for key, what in (("prefill_ms", "prefill"), ("decode_ms", "decode")):
        ours = getattr(report.judged.speed["quantized"], key)
        for form in ("fp32", "bf16"):
            theirs = getattr(report.judged.speed[form], key)
            if ours and theirs and ours.median > theirs.median:
                yield f"{what} takes {ours.median:.3g} ms against {theirs.median:.3g} of {form}"


def save_page(report: Report, path: Path | str) -> None:
    """Write the page to `path`; raises WorkbenchError, the old file untouched."""
    write_text(Path(path), page(report))
