"""The figures of a waterfall against what hand and peer compute."""

import pytest

from workbench import WorkbenchError
from workbench.recipe import Recipe
from workbench.waterfall import SST2, Instances, Row, Waterfall
from workbench.waterfall.curve import beaten_by, curve_svg
from workbench.waterfall.measure import request, sample_by_length
from workbench.waterfall.page import html, save_chart, svg, tables


def row(name, step, milliseconds, right=None, **more) -> Row:
    values = {"engine": "torch", "padded": False, "parameters": 10, "bytes": 40} | more
    return Row(name=name, step=step, milliseconds=milliseconds, right=right, **values)


@pytest.fixture
def found() -> Waterfall:
    many = Instances(
        instances=2, threads=1, samples_per_second=1000, low=990, high=1010,
        p50_ms=1.9, p99_ms=3.0, joules=None,
    )  # fmt: skip
    right = {0: True, 1: True, 2: True, 3: False}
    rows = [
        row("padded", "teacher", {0: 40.0, 2: 40.0}, {0: True, 2: True}, padded=True),
        row("own", "dynamic", {0: 10.0, 1: 20.0, 2: 30.0, 3: 20.0}, right, parent="padded"),
        row(
            "small <b>", "student", {0: 2.0, 1: 2.0, 2: 2.0, 3: 2.0}, right | {0: False, 3: True},
            parent="own",
        ),
        row(
            "other", "int8", {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}, right | {1: False},
            engine="onnxruntime", parent="small <b>",
        ),
        row(
            "many", "instances", {0: 2.0, 1: 2.0, 2: 2.0, 3: 2.0}, right, instances=many,
            parent="small <b>",
        ),
    ]  # fmt: skip
    return Waterfall(
        title="t", rows=rows, examples=4, length=8, price_per_hour=3.6, notes=["n <i>"],
        machine={}, versions={},
    )  # fmt: skip


def test_factors_are_of_the_examples_that_both_ran(found) -> None:
    padded, own, small, _, many = found.rows
    assert (found.padded, found.unpadded) == (padded, own)
    assert own.factor(padded) == 2  # 80 ms against 10 + 30
    assert small.factor(padded) == 20
    assert small.factor(own) == 10
    # 500 a second alone, 1000 in two instances
    assert many.factor(own) == pytest.approx(20)
    assert found.before(many) is small
    assert found.before(padded) is None


def test_who_loses_is_beaten_by_one_that_is_faster_and_as_right(found) -> None:
    """Seconds and shares: .08 all of two, .08 with .75, .008 with .75, .004 with .5."""
    padded, own, small, other = found.rows[:4]
    assert found.judged == [padded, own, small, other]
    assert found.front == [other, small, padded]
    assert beaten_by(own, found.judged) is small
    assert all(beaten_by(row, found.judged) is None for row in found.front)
    picture = curve_svg(found)
    assert "2  own: 75.0%, 0.08 s, beaten by 3" in picture
    assert picture.count("<circle") == 4
    assert "small &lt;b&gt;" in picture


def test_quality_is_paired_with_the_teacher(found) -> None:
    own, small = found.rows[1:3]
    assert own.accuracy == small.accuracy == 0.75
    assert tuple(small.flips(own)) == (1, 1, 1.0)
    # Wilson 1927 for 3 of 4, by the formula
    z, p, n = 1.959964, 0.75, 4
    middle, half = (p + z * z / 2 / n), z * (p * (1 - p) / n + z * z / 4 / n / n) ** 0.5
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    assert own.interval == pytest.approx((low, high), rel=1e-5)


def test_costs_are_of_requests_one_after_the_other_or_by_all_instances(found) -> None:
    """At 3.6 an hour a second costs 0.001."""
    assert found.rows[2].cost(3.6) == pytest.approx(0.002 * 1e8 * 0.001)
    assert found.rows[4].cost(3.6) == pytest.approx(0.001 * 1e8 * 0.001)


def test_it_comes_back_and_is_drawn_without_markup_of_others(found, tmp_path) -> None:
    found.save(tmp_path / "w.json")
    assert Waterfall.load(tmp_path / "w.json") == found
    assert "small &lt;b&gt;" in svg(found)
    page = html(found)
    assert "<b>" not in page
    assert "n &lt;i&gt;" in page
    assert page == found._repr_html_()
    cells = tables(found)["time"]
    assert [one["of padded"] for one in cells] == ["1.00", "2.00", "20.00", "40.00", "40.00"]
    assert cells[0]["s, batch 1"] == "0.08 of 2"
    assert cells[4]["s, batch 1"] == "-"
    for ending in ("svg", "html"):
        save_chart(found, tmp_path / f"w.{ending}")
        assert (tmp_path / f"w.{ending}").stat().st_size > 500
    with pytest.raises(WorkbenchError, match=r"\.svg or \.html"):
        save_chart(found, tmp_path / "w.png")
    (tmp_path / "w.json").write_text("{}")
    with pytest.raises(WorkbenchError, match="no waterfall"):
        Waterfall.load(tmp_path / "w.json")


def test_a_sample_is_spread_over_the_lengths() -> None:
    rows = [{"input_ids": [0] * length} for length in (9, 1, 5, 3, 7, 2, 8, 4, 6)]
    assert sample_by_length(rows, None) == list(range(9))
    assert [len(rows[i]["input_ids"]) for i in sample_by_length(rows, 3)] == [5, 2, 8]
    with pytest.raises(WorkbenchError, match="sample of 0"):
        sample_by_length(rows, 0)


def test_requests_are_padded_to_a_length_or_to_the_longest_of_a_batch() -> None:
    padded = request([{"input_ids": [5]}], 4, pad=7)
    assert padded["input_ids"].tolist() == [[5, 7, 7, 7]]
    assert padded["attention_mask"].tolist() == [[1, 0, 0, 0]]
    batch = request([{"input_ids": [5]}, {"input_ids": [6, 8]}], None, pad=7)
    assert batch["input_ids"].tolist() == [[5, 7], [6, 8]]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1]]


def test_the_full_run_that_ships_is_what_was_promised() -> None:
    full = Waterfall.load(SST2)
    teacher = full.unpadded
    student, pruned = (
        next(row for row in full.rows if row.step == step) for step in ("distilled", "pruned")
    )
    assert teacher.accuracy > 0.9
    assert student.accuracy > teacher.accuracy - 0.015
    quantized = [row for row in full.judged if row.parent == pruned.name]
    assert {row.engine for row in quantized} >= {"workbench", "onnxruntime"}
    assert min(row.accuracy for row in quantized) > teacher.accuracy - 0.025
    assert all(len(row.right) == full.examples == 872 for row in full.judged)


def test_the_full_run_comes_from_the_recipes_beside_it() -> None:
    full = Waterfall.load(SST2)
    recipes = {path.stem: Recipe.load(path) for path in (SST2.parent / "sst2").glob("*.json")}
    assert {row.name.partition(":")[0] for row in full.judged[2:]} == recipes.keys()
    assert len({recipe.compression.task for recipe in recipes.values()}) == 1
