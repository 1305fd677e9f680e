"""The quality benchmark on a tiny model: figures, what is kept, what is refused, tables."""

import math
import statistics

import pytest

import workbench as wb
from workbench.bench import measure_quality, quality, quality_cases
from workbench.bench.quality import Estimate
from workbench.bench.quality_cases import Case, base_recipe, families
from workbench.bench.quality_tables import quality_markdown
from workbench.cli import main


def few(base):
    """8 bits, 3 bits, and a budget that nothing meets."""
    plain = base.with_scheme("none")
    for bits in (8, 3):
        yield Case(f"int{bits}", plain.with_weights(bits=bits))
    document = plain.model_dump(mode="json")
    document["quantization"] |= {"bits": "auto", "budget": {"kind": "bytes", "limit": 1}}
    yield Case("a byte", wb.Recipe.model_validate(document))


@pytest.fixture
def model(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(families, "int4", few)
    return str(tiny_folder)


SMALL = {"samples": 8, "calibration": 2}


def test_figures_follow_the_bits_and_what_nothing_meets_is_refused(model):
    report = measure_quality([model], ["int4"], **SMALL)
    fine, coarse, refused = report.rows
    assert 0 < 10 * fine.divergence.mean < coarse.divergence.mean
    assert coarse.divergence.error > 0
    assert (fine.bits, coarse.bits, fine.samples, fine.tokens) == (8, 3, 8, 8 * 255)
    assert fine.bytes > coarse.bytes
    added = math.log(coarse.perplexity / coarse.perplexity_float)
    assert coarse.loss_added.mean == pytest.approx(added, abs=1e-9)
    assert "the least possible is" in refused.refused
    assert refused.divergence is None
    markdown = quality_markdown(report)
    assert "| a byte | refused |" in markdown
    assert f"| int3 | {coarse.divergence.mean:.3g} ± " in markdown
    assert "8 sequences of 2040 predicted tokens in all" in markdown


def test_it_goes_on_where_it_ended(model, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "quality.json"
    first = measure_quality([model], ["int4"], path=path, **SMALL)
    built = []
    build = quality.build
    monkeypatch.setattr(quality, "build", lambda *given: built.append(1) or build(*given))
    assert measure_quality([model], ["int4"], path=path, **SMALL).rows == first.rows
    assert not built
    other = measure_quality([model], ["int4"], path=path, samples=4, calibration=2)
    assert len(built) == 3
    assert other.rows[0].key != first.rows[0].key


def test_the_command_prints_and_writes(model, tmp_path, capsys):
    arguments = ["bench", "quality", model, "--families", "int4", "--samples", "4"]
    files = ["--json", str(tmp_path / "q.json"), "--markdown", str(tmp_path / "q.md")]
    assert main([*arguments, "--calibration", "2", *files]) == 0
    out = capsys.readouterr().out
    assert "± " in out
    assert "Refused:" in out
    assert (tmp_path / "q.md").read_text().count("| int8 |") == 1


def test_the_spread_of_batches_is_the_error():
    found = Estimate.of([1.0, 2.0, 6.0], [1, 1, 2])
    assert found.mean == 3.75
    assert found.error == pytest.approx(statistics.stdev([1, 2, 6]) / math.sqrt(3))


def test_what_cannot_be_measured_is_told(tmp_path):
    with pytest.raises(wb.WorkbenchError, match="no family 'int5'; allowed: w8a8"):
        measure_quality(["pylm"], ["int5"])
    path = tmp_path / "q.json"
    path.write_text("{}")
    with pytest.raises(wb.WorkbenchError, match=r"q\.json cannot be read as figures of quality"):
        measure_quality(["pylm"], ["int4"], path=path)


@pytest.mark.parametrize("name", quality_cases.families)
def test_every_case_is_a_recipe_of_its_own(name):
    cases = list(quality_cases.families[name](base_recipe("pylm", 8, 0)))
    assert len({case.name for case in cases}) == len(cases)
    assert len({case.recipe.digest() for case in cases}) == len(cases)
    assert all(wb.Recipe.from_json(c.recipe.to_json()) == c.recipe for c in cases)


def test_one_width_is_a_mean_where_there_is_none():
    """Of blocks alike: every other one has a bit more."""
    cases = {c.name: c.recipe.quantization for c in families["mixed"](base_recipe("pylm", 8, 0))}
    assert cases["4 bits, uniform"].weights.dtype == "int4"
    five = cases["5 bits, uniform"]
    assert (five.weights.dtype, five.bits) == ("int4", {"*[13579].*": 6})


def test_allocated_takes_no_more_bytes_than_one_width(model, monkeypatch):
    """As measured on the frozen models, and as predicted from shapes."""
    mixed = quality_cases.mixed
    monkeypatch.setattr(quality_cases, "GROUP", 16)
    monkeypatch.setitem(families, "mixed", lambda base: list(mixed(base))[2:4])
    uniform, allocated = measure_quality([model], ["mixed"], **SMALL).rows
    assert (uniform.case, allocated.case) == ("4 bits, uniform", "4 bits, allocated")
    assert 0.95 * uniform.bytes < allocated.bytes <= uniform.bytes
