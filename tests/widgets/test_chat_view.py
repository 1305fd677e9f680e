"""The chat without a browser: what is asked goes in, what each variant said comes out."""

import threading

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


@pytest.fixture
def long(chat):
    chat.forget()
    chat.max_new_tokens = 400
    yield chat
    chat.max_new_tokens = 8


def press(chat, *arguments) -> None:
    """Stop as a page does."""
    chat._pressed(None, {"call": "stop", "arguments": list(arguments)}, None)


def test_a_stop_keeps_what_the_page_showed(long) -> None:
    shown = []

    def once(change) -> None:
        answers = change["new"].get("answers", [])
        if answers and answers[0]["tokens"] >= 2 and not shown:
            shown.append(answers[0])
            press(long, {"original": answers[0]["tokens"]})

    long.observe(once, "live")
    try:
        job = long.ask(PROMPT).wait(120)
    finally:
        long.unobserve(once, "live")
    assert job.state == "done"
    original, *others = long.turns[-1]["answers"]
    assert (original["tokens"], original["text"]) == (shown[0]["tokens"], shown[0]["text"])
    assert [answer["tokens"] for answer in others] == [0] * len(others)
    for answer in (original, *others):
        assert (answer["ended"], answer["same_tokens"]) == ("stopped", None)
    assert long._chat.conversations["original"].turns[-1].text == original["text"]


def test_a_stop_that_comes_late_takes_the_rest_back(chat) -> None:
    chat.ask(PROMPT).wait(120)
    newest = chat.variants[-1]
    press(chat, dict.fromkeys(chat.variants, 8) | {newest: 5})
    original, *_, quantized = chat.turns[-1]["answers"]
    assert (original["tokens"], original["ended"]) == (8, "length")
    assert (quantized["tokens"], quantized["ended"]) == (5, "stopped")
    assert chat._chat.conversations[newest].turns[-1].text == quantized["text"]
    before = chat.turns
    press(chat, {"original": "x"})
    assert "number of tokens" in chat.error
    press(chat)
    assert chat.turns == before


def test_a_question_that_waits_its_turn_is_withdrawn(chat) -> None:
    before, gate = chat.turns, threading.Event()
    chat.session.queue("wait", lambda: gate.wait(60))
    job = chat.ask(PROMPT)
    assert chat.live["message"] == PROMPT
    press(chat, {})
    gate.set()
    assert job.wait(60).state == "cancelled"
    assert (chat.turns, chat.live) == (before, {})


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
