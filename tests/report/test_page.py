"""The page: it needs nothing else, runs nothing, and shows every figure of the JSON."""

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from workbench.report import Report, page

EVIL = "<script>alert('x')</script>"


class Read(HTMLParser):
    """Collects the tags, the attributes, and the text in and outside of pictures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "rect", "line", "path", "circle"):
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:  # of an SVG shape, which closed itself, there is none
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def read(made) -> Read:
    return Read(page(made))


def test_it_needs_no_other_file_and_runs_nothing(read, made) -> None:
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(read.tags)
    names = {name for name, _ in read.attributes}
    assert not {"src", "href", "xlink:href", "action"} & names
    assert not any(name.startswith("on") for name in names)
    assert "url(" not in page(made)
    assert "@import" not in page(made)
    assert read.open == []


def test_it_is_light_and_dark_and_prints(made) -> None:
    html = page(made)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def numbers(value: Any) -> Iterator[int | float]:
    if isinstance(value, dict):
        for name, part in value.items():
            if name != "samples":  # of a timing: the page has their median and quartiles
                yield from numbers(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_every_figure_of_the_json_is_in_a_table(read, made) -> None:
    document = made.model_dump()
    judged = document["judged"]
    shown = " ".join(read.cells)
    figures = [
        *numbers([document["parameters"], document["comparison"], judged["bytes"]]),
        *numbers([judged["speed"], [one["loudest"] for one in document["inputs"]]]),
        *numbers([times["layers"] for times in document["layer_times"].values()]),
        *numbers([one["ratio"] for one in document["inputs"]]),
        *numbers([layer["bytes"] for layer in document["plan"]["layers"]]),
        *numbers([task["candidate"] for task in (*judged["tasks"], *judged["bf16"])]),
    ]
    assert len(figures) > 150
    for figure in figures:
        text = f"{figure:,}" if isinstance(figure, int) else f"{figure:.6g}"
        assert text in shown, figure
    for task in made.judged.tasks:
        assert f"{task.low:+.4g} to {task.high:+.4g}" in shown
        assert task.verdict in shown
    for name, value in (made.machine | made.versions).items():
        assert str(name).replace("_", " ") in shown or name in shown
        assert (" ".join(value) if isinstance(value, list) else str(value)) in shown
    for layer in made.plan.layers:
        assert layer.op_reason in shown


def test_every_picture_has_a_title_and_a_table_after_it(read) -> None:
    assert read.tags.count("svg") == read.tags.count("figcaption") == 8
    for at, tag in enumerate(read.tags):
        if tag == "svg":
            assert "table" in read.tags[at:]


def test_energy_and_memory_are_told_where_the_machine_shows_them(made) -> None:
    speed = dict.fromkeys(
        made.judged.speed,
        made.judged.speed["fp32"].model_copy(update={"peak_bytes": None, "prefill_joules": 0.25}),
    )
    judged = made.judged.model_copy(update={"speed": speed})
    cells = Read(page(made.model_copy(update={"judged": judged}))).cells
    assert cells.count("not told here") == cells.count("0.25") == 3


def test_text_of_models_and_users_is_shown_and_never_run(made) -> None:
    plan = made.plan.model_copy(
        update={"layers": (made.plan.layers[0].model_copy(update={"op_reason": EVIL}),)}
    )
    judged = made.judged.model_copy(update={"model": EVIL, "recipe": {"model": EVIL}})
    evil = made.model_copy(
        update={"title": EVIL, "note": EVIL, "notices": [EVIL], "judged": judged, "plan": plan,
                "code": EVIL, "command": EVIL, "machine": {"processor": EVIL}}
    )  # fmt: skip
    read = Read(page(evil))
    assert "script" not in read.tags
    assert read.text.count(EVIL) >= 9


def test_slower_is_said_aloud(made) -> None:
    speed = dict(made.judged.speed)
    slow = speed["fp32"].prefill_ms.model_copy(update={"median": 1e6})
    speed["quantized"] = speed["quantized"].model_copy(update={"prefill_ms": slow})
    judged = made.judged.model_copy(update={"speed": speed})
    text = Read(page(made.model_copy(update={"judged": judged}))).text
    assert "Slower than its original: prefill takes 1e+06 ms against" in text


def test_an_encoder_without_tasks_has_a_page(made) -> None:
    judged = made.judged.model_copy(update={"tasks": [], "bf16": []})
    bare: Report = made.model_copy(update={"judged": judged, "layer_times": {}})
    assert Read(page(bare)).tags.count("svg") == 6  # as of a report made before layers were timed
