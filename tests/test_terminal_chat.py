"""The chat as one types it: a pipe, a conversation, and messages that are refused."""

import io
import signal
import sys

import pytest

import workbench as wb
from workbench.chat import Chat, ChatSettings, variants
from workbench.cli import main
from workbench.terminal_chat import converse


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def chat() -> Chat:
    tokenizer, models = variants("pylm", {})
    return Chat(models, tokenizer, ChatSettings(max_new_tokens=6))


def test_a_pipe_is_one_message(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("def area(width, height):\n    return"))
    assert main(["chat", "pylm", "--tokens", "8"]) == 0
    shown = capsys.readouterr().out
    assert "original>" in shown
    assert "int8>" in shown
    assert shown.count("8 tokens (length), first after") == 2


def test_a_conversation(chat, monkeypatch, capsys) -> None:
    typed = ["x = [1,\\", " 2]", "\x07", "y =", "/reset", "z =", "/quit", "never said"]
    monkeypatch.setattr("builtins.input", lambda _: typed.pop(0))
    monkeypatch.setattr(sys, "stdin", Keyboard())
    converse(chat)
    shown = capsys.readouterr().out
    assert "the message is empty" in shown
    said = chat.conversations["original"].turns
    assert [turn.text for turn in said if turn.role == "user"] == ["z ="]
    assert typed == ["never said"]


def test_several_lines_are_one_message(chat, monkeypatch) -> None:
    typed = ["x = [1,\\", " 2]"]

    def line(_: str) -> str:
        if not typed:
            raise EOFError
        return typed.pop(0)

    monkeypatch.setattr("builtins.input", line)
    monkeypatch.setattr(sys, "stdin", Keyboard())
    converse(chat)
    assert chat.conversations["int8"].turns[0].text == "x = [1,\n 2]"


def test_ctrl_c_ends_the_answer_and_keeps_what_was_written(chat, monkeypatch, capsys) -> None:
    ask, pressed = chat.ask, []

    def interrupted(message, notice):
        def heard(answer) -> None:
            notice(answer)
            if len(answer.tokens) == 3 and not pressed:  # heard again where it ends there
                pressed.append(answer.variant)
                handler = signal.getsignal(signal.SIGINT)
                handler(signal.SIGINT, None)

        return ask(message, heard)

    monkeypatch.setattr(chat, "ask", interrupted)
    monkeypatch.setattr(sys, "stdin", io.StringIO("def area(width, height):"))
    before = signal.getsignal(signal.SIGINT)
    converse(chat)
    assert signal.getsignal(signal.SIGINT) is before
    shown = capsys.readouterr().out
    assert "tokens (stopped)" in shown
    said = {name: found.turns[-1].text for name, found in chat.conversations.items()}
    assert said["original"]
    assert said["original"] in shown
    assert said["int8"] == ""
    assert "the same answer" not in shown


def test_an_encoder_does_not_chat() -> None:
    with pytest.raises(wb.WorkbenchError, match="only language models chat"):
        variants("minilm", None)


def test_settings_are_judged_before_a_model_is_loaded(capsys) -> None:
    assert main(["chat", "no/model", "--temperature", "-1"]) == 2
    assert "temperature" in capsys.readouterr().err
