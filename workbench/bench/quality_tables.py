"""The quality of many variants as tables, for a terminal and in Markdown."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from workbench.bench.quality import Estimate, QualityReport, QualityRow

TITLES = {
    "w8a8": "int8 weights, int8 activations (O1 per token, O2 per tensor, O3 per tensor, static)",
    "alpha": "O3 by alpha",
    "int4": "int4 weights in affine groups of 128, activations in float",
    "int3": "int3 weights in affine groups of 128, activations in float",
    "mixed": "2 to 8 bits by layer in affine groups of 128, in no more bytes than one width takes",
}
Grid = tuple[str, list[str], list[list[str]]]


def quality_tables(report: QualityReport) -> Iterator[Table]:
    """One table for each family: cases by models."""
    for title, columns, rows in _grids(report):
        table = Table(title=title, title_justify="left")
        table.add_column("")
        for column in columns:
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(*row)
        yield table


def quality_markdown(report: QualityReport) -> str:
    """The same as Markdown, with what the figures are."""
    parts = [f"{quality_caption(report)}\n"]
    for title, columns, rows in _grids(report):
        lines = [["", *columns], ["---"] * (len(columns) + 1), *rows]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"{title}:\n\n{body}\n")
    return "\n".join(parts + [f"Refused: {one}\n" for one in quality_refused(report)])


def quality_caption(report: QualityReport) -> str:
    """What the figures are, and what they were measured on."""
    sizes = {}
    for row in report.rows:
        if row.samples:
            unit = f"{row.samples} sentences"
            if row.tokens is not None:
                unit = f"{row.samples} sequences of {row.tokens} predicted tokens in all"
            sizes[row.model] = f"{row.model}: {unit}"
    judged = "; ".join(sizes.values())
    return (
        "KL divergence from the float model in nats a token, with its standard error over held-out "
        "batches, and perplexity; for encoders 1 - cosine of the embeddings. Judged on held-out "
        f"text ({judged}), chosen on at most {report.calibration} other samples, "
        f"seed {report.seed}."
    )


def quality_refused(report: QualityReport) -> list[str]:
    """What could not be built, and why."""
    return list(
        dict.fromkeys(f"{r.model}, {r.case}: {r.refused}" for r in report.rows if r.refused)
    )


def _grids(report: QualityReport) -> Iterator[Grid]:
    for family, title in TITLES.items():
        found = [row for row in report.rows if row.family == family]
        models = list(dict.fromkeys(row.model for row in found))
        if not found:
            continue
        lines = [["float", *(_float(found, model) for model in models)]]
        for case in dict.fromkeys(row.case for row in found):
            by_model = {row.model: row for row in found if row.case == case}
            lines.append([case, *(_cell(by_model.get(model)) for model in models)])
        yield title, models, lines


def _float(rows: Sequence[QualityRow], model: str) -> str:
    known = [r.perplexity_float for r in rows if r.model == model and r.perplexity_float]
    return f"0 ({known[0]:.2f})" if known else "0"


def _cell(row: QualityRow | None) -> str:
    if row is None or row.divergence is None:
        return "" if row is None else "refused"
    told = _told(row.divergence)
    if row.perplexity is None:
        return told
    return f"{told} ({row.perplexity:{'.0f' if row.perplexity >= 1000 else '.2f'}})"


def _told(found: Estimate) -> str:
    """As many digits as the error leaves, at most three."""
    return f"{found.mean:.3g} ± {found.error:.1g}"
