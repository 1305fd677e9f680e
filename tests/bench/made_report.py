"""A comparison of trainers that nobody ran."""

from workbench.bench.training_report import PLAIN, TrainReport, TrainRow


def row(name: str, ratio: float = 1.0, held_out: float = 2.0, **values) -> TrainRow:
    return TrainRow(
        **{"name": name, "seed": 0, "kept": (name,), "samples_s": 10 * ratio, "error": 0.02,
           "tokens_s": 100 * ratio, "ratio": ratio, "processor_ratio": ratio, "compile_s": 0.0,
           "with_compile": ratio, "peak_bytes": None, "losses": (3.0, 2.5, 2.0, 1.0),
           "held_out": held_out, "parity": "within the seeds"} | values
    )  # fmt: skip


def made_report() -> TrainReport:
    rows = (
        row(PLAIN, error=0.0),
        row(PLAIN, seed=1, error=0.0, held_out=2.1),
        row("bf16", 1.8),
        row("compile", 1.3, compile_s=30.0, with_compile=0.4),
        row("heap", 0.8, parity="worse by 0.2000"),
    )
    return TrainReport(
        subject="x", what="A model & its rows", steps=4, batch=2, threads=1, rows=rows,
        failed={"packing": "all rows have one length"},
    )  # fmt: skip
