"""A chat against plain generation, and what visitors may send."""

import threading

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.chat import Answer, Chat, ChatSettings, first_divergence
from workbench.chat.conversation import Conversation, Message, cleaned
from workbench.errors import WorkbenchError

PROMPT = "def area(width, height):\n"
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def pylm() -> wb.LoadedModel:
    return wb.load("pylm")


@pytest.fixture(scope="module")
def variants(pylm) -> dict[str, torch.nn.Module]:
    quantized = pylm.copy()
    wb.quantize(quantized, weights=wb.qint8)
    wb.freeze(quantized)
    return {"fp32": pylm.model, "int8": quantized}


def test_answers_are_those_of_generate(pylm, variants) -> None:
    chat = Chat(variants, pylm.tokenizer, ChatSettings(max_new_tokens=12))
    answers = chat.ask(PROMPT)
    ids = pylm.tokenizer(PROMPT, add_special_tokens=False, return_tensors="pt")["input_ids"]
    for answer, model in zip(answers, variants.values(), strict=True):
        expected = model.generate(input_ids=ids, max_new_tokens=12, do_sample=False)
        assert answer.tokens == expected[0, ids.shape[1] :].tolist()
        assert answer.text == pylm.tokenizer.decode(answer.tokens, skip_special_tokens=True)
        assert answer.ended == "length"
        assert sorted(answer.seconds) == answer.seconds
        assert answer.tokens_per_second > 0


def test_every_token_is_told_as_it_comes(pylm, variants) -> None:
    heard = []
    chat = Chat(variants, pylm.tokenizer, ChatSettings(max_new_tokens=5))
    chat.ask(PROMPT, lambda answer: heard.append((answer.variant, len(answer.tokens))))
    told = [(name, n) for name in variants for n in range(1, 6)]
    assert list(dict.fromkeys(heard)) == told


def test_stop_ends_at_the_next_token_and_skips_the_others(pylm, variants) -> None:
    chat = Chat(variants, pylm.tokenizer, ChatSettings(max_new_tokens=200))

    def notice(answer: Answer) -> None:
        if len(answer.tokens) == 3:
            chat.stop()

    first, second = chat.ask(PROMPT, notice)
    assert first.ended == "stopped"
    assert len(first.tokens) in (3, 4)  # the next token was already being made
    assert second.tokens == []
    assert chat.ask(PROMPT, lambda _: chat.stop())[0].tokens  # and can be asked again


def test_stop_from_another_thread(pylm, variants) -> None:
    chat = Chat({"fp32": pylm.model}, pylm.tokenizer, ChatSettings(max_new_tokens=400))
    begun = threading.Event()
    heard: list[Answer] = []

    def notice(answer: Answer) -> None:
        heard.append(answer)
        begun.set()

    thread = threading.Thread(target=chat.ask, args=(PROMPT, notice))
    thread.start()
    begun.wait(60)
    chat.stop()
    written = len(heard[0].tokens)
    thread.join(60)
    assert heard[0].ended == "stopped"
    assert len(heard[0].tokens) <= written + 1  # the one that was being made


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after the end"])
def test_a_stop_keeps_what_the_reader_saw(late, pylm, variants) -> None:
    chat = Chat(variants, pylm.tokenizer, ChatSettings(max_new_tokens=12))
    whole = {answer.variant: answer.tokens for answer in chat.ask(PROMPT)}
    chat.reset()
    shown = {"fp32": 12, "int8": 3}

    def notice(answer: Answer) -> None:
        if (answer.variant, len(answer.tokens)) == ("int8", 7) and not late:
            chat.stop(shown)
            chat.stop()  # another way to stop changes nothing of that

    first, second = chat.ask(PROMPT, notice)
    if late:
        chat.stop(shown)
    assert (first.tokens, first.ended) == (whole["fp32"], "length")
    assert (second.tokens, second.ended) == (whole["int8"][:3], "stopped")
    assert len(second.seconds) in ((12,) if late else (7, 8))  # the rate is of what was made
    for answer in (first, second):
        said = chat.conversations[answer.variant]
        assert [turn.text for turn in said.turns] == [PROMPT, answer.text]
        ids = said.prompt("x", None, 1)
        assert pylm.tokenizer.decode(ids[0]) == PROMPT + answer.text + "x"
    assert first_divergence([first, second]) is None or whole["fp32"][:3] != whole["int8"][:3]
    chat.reset()
    chat.stop({})  # and nothing is left to take back
    assert all(not said.turns for said in chat.conversations.values())


def test_an_answer_that_was_not_seen_at_all_is_not_kept(pylm, variants) -> None:
    chat = Chat(variants, pylm.tokenizer, ChatSettings(max_new_tokens=4))
    for answer in chat.ask(PROMPT, lambda _: chat.stop({})):
        assert (answer.text, answer.ended) == ("", "stopped")


@pytest.mark.parametrize("shown", [3, ["fp32"], {"fp32": -1}, {"fp32": "3"}, {"fp32": True}])
def test_a_count_that_is_none_is_refused(shown, pylm, variants) -> None:
    chat = Chat(variants, pylm.tokenizer)
    with pytest.raises(WorkbenchError, match="number of tokens shown by variant"):
        chat.stop(shown)


def test_the_seed_decides_what_is_drawn(pylm) -> None:
    def drawn(seed: int) -> list[int]:
        settings = ChatSettings(max_new_tokens=16, temperature=1.2, seed=seed)
        return Chat({"fp32": pylm.model}, pylm.tokenizer, settings).ask(PROMPT)[0].tokens

    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    assert drawn(1) == drawn(1) != drawn(2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_variants_share_what_was_not_quantized(pylm, variants) -> None:
    before, after = (
        {name: tensor.untyped_storage().data_ptr() for name, tensor in model.state_dict().items()}
        for model in (variants["fp32"], variants["int8"])
    )
    linears = {name for name, module in pylm.model.named_modules() if type(module) is nn.Linear}
    changed = {name for name in before if after.get(name) != before[name]}
    assert {name.rpartition(".")[0] for name in changed} == linears - {"lm_head"}


def test_first_divergence() -> None:
    def of(*tokens: int, ended="end") -> Answer:
        return Answer("", tokens=list(tokens), ended=ended)

    assert first_divergence([of(1, 2, 3), of(1, 2, 4)]) == 2
    assert first_divergence([of(1, 2, 3), of(1, 2)]) == 2
    assert first_divergence([of(1, 2, 3), of(1, 2, ended="stopped")]) is None
    assert first_divergence([of(1, 2), of(1, 2)]) is None
    assert first_divergence([]) is None


def test_a_template_is_used_where_there_is_one(pylm) -> None:
    tokenizer = type(pylm.tokenizer).from_pretrained(pylm.folder)
    tokenizer.chat_template = TEMPLATE
    said = Conversation(tokenizer, "be brief", [Message("user", "a"), Message("assistant", "b")])
    text = tokenizer.decode(said.prompt("c", None, 1)[0])
    assert text == "<system>be brief<user>a<assistant>b<user>c<assistant>"


def test_without_one_the_text_goes_on(pylm) -> None:
    said = Conversation(pylm.tokenizer)
    said.add("x = 1\n", "y = 2\n")
    assert pylm.tokenizer.decode(said.prompt("z =", None, 1)[0]) == "x = 1\ny = 2\nz ="


def test_the_oldest_turns_make_room(pylm) -> None:
    said = Conversation(pylm.tokenizer)
    for n in range(20):
        said.add(f"first_{n} = {n}\n", f"second_{n} = {n}\n")
    text = pylm.tokenizer.decode(said.prompt("last =", 80, 16)[0])
    assert text.endswith("last =")
    assert "first_0 " not in text
    with pytest.raises(WorkbenchError, match="context is 8"):
        said.prompt("a long message " * 10, 8, 4)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("x" * 1_000_000, "1,000,000 characters; at most 20,000"),
        ("", "empty"),
        (" \n\x00\x07", "empty"),
        (None, "NoneType"),
        (b"bytes", "bytes"),
    ],
)
def test_messages_that_are_refused(message, reason, pylm, variants) -> None:
    chat = Chat(variants, pylm.tokenizer)
    with pytest.raises(WorkbenchError, match=reason):
        chat.ask(message)
    assert all(not said.turns for said in chat.conversations.values())


def test_control_characters_are_dropped_and_markup_stays_text() -> None:
    assert cleaned("a\x1b[31m\x00<b>\r\n\tc") == "a[31m<b>\n\tc"


def test_settings_are_judged_by_name() -> None:
    assert ChatSettings().changed(temperature=0.5).temperature == 0.5
    for name, value in {"temperature": -1, "top_p": 0, "max_new_tokens": 0, "seed": "x"}.items():
        with pytest.raises(WorkbenchError, match=f"{name}: .*found"):
            ChatSettings().changed(**{name: value})
    with pytest.raises(WorkbenchError, match="temprature"):
        ChatSettings().changed(temprature=1)


def test_models_that_cannot_talk(pylm) -> None:
    with pytest.raises(WorkbenchError, match="at least one"):
        Chat({}, pylm.tokenizer)
    with pytest.raises(WorkbenchError, match="Linear, which cannot generate"):
        Chat({"a": torch.nn.Linear(2, 2)}, pylm.tokenizer)
