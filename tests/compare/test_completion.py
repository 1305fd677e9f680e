"""What counts as a completion that parses."""

import pytest

from workbench.compare.completion import parses, whole_statements

PROMPT = "import os\n\ndef area(a, b):\n"
BODY = "    if a < 0:\n        raise ValueError(a)\n    return a * b\n"


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        pytest.param(BODY, True, id="whole"),
        pytest.param(BODY + "x = (1, 2", True, id="last line is not complete, so it is cut"),
        pytest.param(BODY + "x = f(\n    1,\n", True, id="open bracket after three lines"),
        pytest.param(BODY + "class A:\n    def f(self):\n", True, id="headers without a body"),
        pytest.param(BODY + "try:\n    x = 1\n", True, id="try without its except"),
        pytest.param(BODY + '"""open\ntext\n', True, id="open string"),
        pytest.param(BODY + "x = = 1\ny = 2\n", False, id="an error after three good lines"),
        pytest.param(BODY + "x = 'open\n", False, id="a string that ends with its line"),
        pytest.param(BODY + "  return\n", False, id="indentation of no block"),
        pytest.param("    return a * b\n\n\n\n\n", False, id="blank lines do not count"),
        pytest.param("    a\n    b\n    c", False, id="only two complete lines"),
        pytest.param("    x = [\n    1,\n    2,\n", True, id="three lines of one open statement"),
        pytest.param("", False, id="nothing came"),
    ],
)
def test_parses(completion: str, expected: bool) -> None:
    assert parses(PROMPT, completion) is expected


def test_the_rest_of_the_prompts_last_line_is_no_new_line() -> None:
    assert parses("x = 1 +", " 2\ny = 3\nz = 4\nw = 5\n")
    assert not parses("x = 1 +", " 2\ny = 3\nz = 4\n")
    assert not parses("x = 1 +", " = 2\ny = 3\nz = 4\nw = 5\n")


def test_whole_statements_keeps_what_is_whole() -> None:
    assert whole_statements("x = 1\ndef f():\n    y = 2\n    if y:\n") == (
        "x = 1\ndef f():\n    y = 2\n"
    )
    assert whole_statements("x = 1\ny = )\n") is None
    assert whole_statements("\0") is None
