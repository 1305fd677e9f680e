"""A chat in the terminal: what is typed, what each variant answers, how fast, where they differ."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from workbench.chat import Answer, Chat, first_divergence
from workbench.console import console
from workbench.errors import WorkbenchError


def converse(chat: Chat) -> None:
    """Answer messages from stdin until it ends; errors are told and the chat goes on."""
    screen = console()
    if not chat.templated:
        screen.print("[dim]No chat template: the model goes on with your text.[/dim]")
    for message in _messages(sys.stdin.isatty()):
        if message == "/reset":
            chat.reset()
            continue
        try:
            _answer(chat, message, screen)
        except WorkbenchError as error:
            screen.print(f"[red]{escape(str(error))}[/red]")


def _messages(prompting: bool) -> Iterator[str]:
    """What is typed, lines that end in a backslash joined; of a pipe everything is one message."""
    if not prompting:
        yield sys.stdin.read()
        return
    while True:
        lines: list[str] = []
        try:
            while not lines or lines[-1].endswith("\\"):
                lines.append(input("you> " if not lines else "...> "))
        except EOFError:
            return
        message = "\n".join(line.removesuffix("\\") for line in lines)
        if message == "/quit":
            return
        if message.strip():
            yield message


def _answer(chat: Chat, message: str, screen: Console) -> None:
    shown: dict[str, int] = {}

    def notice(answer: Answer) -> None:
        if answer.variant not in shown:
            screen.print(f"[bold]{escape(answer.variant)}>[/bold]")
        text, done = answer.text, shown.get(answer.variant, 0)
        screen.out(text[done:], end="", highlight=False)
        shown[answer.variant] = max(done, len(text))
        if answer.ended:
            screen.print(f"\n[dim]{_rate(answer)}[/dim]")

    try:
        with _ctrl_c_stops(chat):
            answers = chat.ask(message, notice)
    except KeyboardInterrupt:
        screen.print("\n[dim]given up[/dim]")
        return
    at = first_divergence(answers)
    if at is not None:
        screen.print(_divergence(chat, answers, at))
    elif len(answers) > 1 and not any(answer.ended == "stopped" for answer in answers):
        screen.print("[dim]the same answer[/dim]")


@contextmanager
def _ctrl_c_stops(chat: Chat) -> Iterator[None]:
    """Let Ctrl+C end the answer and keep what was written; pressed again, it interrupts."""
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        chat.stop()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _rate(answer: Answer) -> str:
    first, rate = answer.first_token_ms, answer.tokens_per_second
    parts = [f"{len(answer.tokens)} tokens ({answer.ended})"]
    parts += [] if first is None else [f"first after {first:.0f} ms"]
    parts += [] if rate is None else [f"then {rate:.1f} a second"]
    return ", ".join(parts)


def _divergence(chat: Chat, answers: list[Answer], at: int) -> str:
    words = [
        f"{answer.variant} {chat.tokenizer.decode(answer.tokens[at : at + 1])!r}"
        for answer in answers
    ]
    return f"[dim]the same for {at} tokens, then {escape(', '.join(words))}[/dim]"
