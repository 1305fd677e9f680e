"""The chat without a browser: what is asked goes in, what each variant said comes out."""

import pytest

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.widgets import ChatView

PROMPT = "def area(width, height):\n"


@pytest.fixture(scope="module")
def chat():
    recipe = wb.Recipe(model="pylm").with_alpha(None).with_scheme("none")
    session = wb.Session(recipe)
    yield ChatView(session, max_new_tokens=8)
    session.close()


def test_both_answer_and_where_they_part_is_told(chat) -> None:
    job = chat.ask(PROMPT).wait(120)
    assert job.state == "done", job.error
    (turn,) = chat.turns
    original, quantized = turn["answers"]
    assert [original["name"], quantized["name"]] == chat.variants == ["original", "W8"]
    assert original["common"] is None
    for answer in (original, quantized):
        assert answer["tokens"] == 8
        assert answer["first_ms"] > 0
        assert answer["rate"] > 0
    if quantized["common"] is None:
        assert quantized["text"] == original["text"]
    else:
        at = quantized["common"]
        assert quantized["text"][:at] == original["text"][:at]
    assert chat.live == {}


def test_a_kept_variant_answers_beside_the_next(chat) -> None:
    if not chat.turns:
        chat.ask(PROMPT).wait(120)
    chat.keep()
    chat.session.update(chat.session.recipe.with_weights(bits=2))
    assert chat.variants == ["original", "W8", "W2"]
    job = chat.ask("x =").wait(120)
    assert job.state == "done", job.error
    answers = chat.turns[-1]["answers"]
    assert [answer["name"] for answer in answers] == ["original", "W8", "W2"]
    assert answers[2]["common"] is not None  # two bits of one scale a channel are too few
    chat.forget()
    assert chat.turns == []


def test_stop_keeps_what_was_written(chat) -> None:
    chat.max_new_tokens = 400
    heard = []

    def once(change) -> None:
        answers = change["new"].get("answers", [])
        if answers and answers[0]["tokens"] >= 2 and not heard:
            heard.append(answers[0]["tokens"])
            chat.stop()

    chat.observe(once, "live")
    try:
        job = chat.ask(PROMPT).wait(120)
    finally:
        chat.unobserve(once, "live")
        chat.max_new_tokens = 8
    assert job.state == "done"
    first = chat.turns[-1]["answers"][0]
    assert first["ended"] == "stopped"
    assert heard[0] <= first["tokens"] < 400


@pytest.mark.parametrize("message", ["", "x" * 1_000_000, 7, "\x00"])
def test_what_cannot_be_asked_is_refused_in_words(chat, message) -> None:
    before = chat.turns
    chat._pressed(None, {"call": "ask", "arguments": [message]}, None)
    assert chat.error
    assert (chat.turns, chat.live) == (before, {})


def test_settings_are_refused_by_name(chat) -> None:
    for name, value in {"temperature": 9.0, "top_p": 0.0, "max_new_tokens": 0}.items():
        before = getattr(chat, name)
        chat.set_state({name: value})
        assert name in chat.error
        assert getattr(chat, name) == before


def test_an_encoder_does_not_chat() -> None:
    session = wb.Session("minilm")
    view = ChatView(session)
    job = view.ask("hello").wait(120)
    assert job.state == "failed"
    assert "cannot chat" in view.error
    session.close()


def test_nothing_to_keep_yet() -> None:
    session = wb.Session("pylm")
    with pytest.raises(WorkbenchError, match="no frozen model"):
        ChatView(session).keep()
    session.close()
