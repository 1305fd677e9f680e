"""Whether a model's continuation of a Python source file is Python."""

import ast
import codeop
import re
import warnings

NEW_LINES = 3  # fewer say nothing about the model: a lone `pass` always parses


def parses(prompt: str, completion: str) -> bool:
    """Tell whether `prompt + completion` is Python as far as it goes, and goes far enough.

    The completion is cut at its last complete line. What then stands there has to be the beginning
    of some valid program, so that cut to whole statements it parses: an error anywhere fails it, a
    block, string or bracket still open at the end does not. And the completion has to bring at
    least three non-blank new lines; the rest of the prompt's last line is not one.
    """
    cut = completion[: completion.rfind("\n") + 1]
    fresh = cut if prompt[-1:] in ("", "\n") else cut.partition("\n")[2]
    new_lines = [line for line in fresh.split("\n") if line.strip()]
    return len(new_lines) >= NEW_LINES and whole_statements(prompt + cut) is not None


def whole_statements(source: str) -> str | None:
    """Drop what is unfinished at the end of `source`; None where it is wrong, not unfinished."""
    lines = re.findall(r".*\n|.+", source)  # `splitlines` also breaks at form feeds in strings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model's invalid escapes are no concern of the reader
        if not _parses(source) and not _is_unfinished(source):
            return None
        while lines and not _parses("".join(lines)):
            lines.pop()
    return "".join(lines)


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _is_unfinished(source: str) -> bool:
    """Ask the parser what the interactive prompt asks it: would more lines help?"""
    flags = (
        ast.PyCF_ONLY_AST
        | codeop.PyCF_DONT_IMPLY_DEDENT  # type: ignore[attr-defined]
        | codeop.PyCF_ALLOW_INCOMPLETE_INPUT  # type: ignore[attr-defined]
    )
    try:
        compile(source, "<completion>", "exec", flags=flags)
    except SyntaxError as error:
        return "incomplete input" in str(error)
    except (ValueError, RecursionError, MemoryError):
        return False
    return True
