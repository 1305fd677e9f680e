"""The chat as a visitor meets it: streamed answers, stopping, and text that stays text."""

import pytest
from chatting import Watched, answers, ask

import workbench as wb

pytestmark = pytest.mark.browser

PROMPT = "def area(width, height):"
HOSTILE = "<img src=x onerror=\"document.title='run'\"><b>x</b> ="


@pytest.fixture(scope="module")
def chat(new_page, voila):
    """One visit of the chat, ready to answer."""
    page = new_page("chat")
    page.goto(f"{voila}/voila/render/chat.ipynb")
    page.wait_for_selector("[data-view=chat] textarea")
    page.get_by_text("answer one after the other").wait_for()
    return page.locator("[data-view=chat]")


def test_both_write_what_generate_gives(chat, pictures) -> None:
    ask(chat, PROMPT)
    original, quantized = answers(chat)
    chat.screenshot(path=pictures / "chat.png")
    loaded = wb.load("pylm")
    ids = loaded.tokenizer(PROMPT, add_special_tokens=False, return_tensors="pt")["input_ids"]
    out = loaded.model.generate(input_ids=ids, max_new_tokens=64, do_sample=False)
    expected = loaded.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    assert original.locator(".qw-chat-text").evaluate("node => node.textContent") == expected
    assert original.get_attribute("data-variant") == "original"
    assert quantized.get_attribute("data-variant") == "W8A8 O3 alpha 0.5"
    for answer in (original, quantized):
        assert float(answer.get_attribute("data-rate")) > 0
        assert float(answer.get_attribute("data-shown")) > 0


def test_words_come_as_they_are_found_and_the_page_goes_on(chat) -> None:
    watched = Watched(chat)
    ask(chat, PROMPT)
    chat.locator(".qw-chat-answer[data-tokens]").first.wait_for()
    chat.get_by_label("Message").fill("typed meanwhile")
    answers(chat)
    watched.read()
    for states in watched.states.values():
        tokens = [state["tokens"] for state in states]
        assert tokens == sorted(tokens)
        assert len(set(tokens)) >= 3
        assert tokens[-1] <= 64
    assert chat.get_by_label("Message").input_value() == "typed meanwhile"
    chat.get_by_label("Message").fill("")


def test_the_first_divergence_is_marked_and_not_by_colour_alone(chat) -> None:
    original, quantized = answers(chat)
    texts = [
        answer.locator(".qw-chat-text").evaluate(
            "node => { const copy = node.cloneNode(true); const mark = copy.querySelector('mark');"
            " if (mark) mark.replaceWith(mark.lastChild.textContent); return copy.textContent; }"
        )
        for answer in (original, quantized)
    ]
    mark = quantized.locator("mark")
    assert mark.count() == (texts[0] != texts[1])
    if mark.count():
        assert "≠" in mark.inner_text()


def test_markup_in_a_message_is_text(chat) -> None:
    ask(chat, HOSTILE)
    answers(chat)
    shown = chat.locator(".qw-chat-message").last
    assert HOSTILE in shown.inner_text()
    assert chat.locator(".qw-chat-log img, .qw-chat-log b").count() == 0
    assert chat.page.title() != "run"


def test_a_stop_is_immediate_and_what_was_read_is_what_is_kept(chat) -> None:
    chat.locator("details summary").click()
    chat.get_by_label("Longest answer, tokens").fill("100")
    chat.page.keyboard.press("Tab")
    chat.locator("button[data-call=forget]").click()
    chat.locator(".qw-chat-turn").first.wait_for(state="detached")
    watched = Watched(chat)
    for variant in ("original", "W8A8 O3 alpha 0.5"):
        watched.clear()
        watched.stop_in(variant)
        ask(chat, PROMPT)
        turn = chat.locator(".qw-chat-turn").last
        turn.locator(".qw-chat-answer[data-ended=stopped]").first.wait_for()
        chat.locator(".qw-chat-log[aria-busy=false]").wait_for()
        watched.read()
        assert 0 < watched.at_stop[variant]["tokens"] < 100
        for answer in answers(chat):
            name = answer.get_attribute("data-variant")
            seen = watched.at_stop[name]
            text = answer.locator(".qw-chat-text").evaluate("node => node.textContent")
            assert text.replace("differs from here: ≠", "") == seen["text"]
            after = {s["tokens"] for s in watched.states[name] if s["at"] > watched.stopped}
            assert after <= {seen["tokens"]} == {int(answer.get_attribute("data-tokens"))}


def test_a_megabyte_is_refused_in_words(chat) -> None:
    chat.locator(".qw-chat-log[aria-busy=false]").wait_for()
    before = chat.locator(".qw-chat-turn").count()
    chat.get_by_label("Message").evaluate("node => { node.value = 'x'.repeat(1e6); }")
    chat.locator("button[data-call=ask]").click()
    chat.locator(".qw-error").get_by_text("at most 20,000").wait_for()
    assert chat.locator(".qw-chat-turn").count() == before
