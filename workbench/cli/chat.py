"""`workbench chat`: a model and its quantized variants in the terminal."""

import argparse
from pathlib import Path

CHAT = """\
Talk to a model and to what recipes make of it: each answers the same message in turn, with the time
to its first token and its tokens per second, and the first word at which they differ. Where the
tokenizer has a chat template it is used; otherwise the model goes on with your text.

At the prompt: /reset forgets what was said, /quit ends, Ctrl-C stops an answer. A line that ends in
a backslash goes on in the next.
"""

CHAT_EXAMPLES = """\
examples:
  workbench chat pylm
  workbench chat pylm --recipes o3.json w4.json --tokens 64
  workbench chat out/checkpoint --system "Answer in one sentence." --temperature 0.7 --seed 1
  echo "def area(width, height):" | workbench chat pylm
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    chat = commands.add_parser(
        "chat",
        help="talk to a model and to its quantized variants, side by side",
        description=CHAT,
        epilog=CHAT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chat.add_argument("model", help="a bundled name, folder or hub id")
    chat.add_argument(
        "--recipes", nargs="+", type=Path, default=[], metavar="FILE",
        help="recipes whose frozen models answer too (default: int8 weights, float activations)",
    )  # fmt: skip
    chat.add_argument("--only", action="store_true", help="no quantized variant: the model alone")
    chat.add_argument("--tokens", type=int, default=128, metavar="N", help="default: %(default)s")
    chat.add_argument(
        "--temperature", type=float, default=0.0, help="0 takes the likeliest token (the default)"
    )
    chat.add_argument("--top-p", type=float, default=1.0, help="default: %(default)s")
    chat.add_argument("--top-k", type=int, default=50, help="default: %(default)s")
    chat.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    chat.add_argument("--system", default="", help="what the model is told to be")
    chat.set_defaults(command=_chat)


def _chat(arguments: argparse.Namespace) -> int:
    from workbench.chat import Chat, ChatSettings, variants
    from workbench.console import at_work
    from workbench.recipe import Recipe
    from workbench.terminal_chat import converse

    settings = ChatSettings().changed(
        max_new_tokens=arguments.tokens,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        top_k=arguments.top_k,
        seed=arguments.seed,
        system=arguments.system,
    )
    recipes = {path.stem: Recipe.load(path) for path in arguments.recipes}
    with at_work():
        tokenizer, models = variants(arguments.model, None if arguments.only else recipes)
    converse(Chat(models, tokenizer, settings))
    return 0
