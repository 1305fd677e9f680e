"""The README's commands are the ones that are run elsewhere."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
TEST_COMMAND = 'pip install -c constraints.txt ".[test]" && pytest'


def test_ci_runs_the_test_command_of_the_readme() -> None:
    for name in ("README.md", ".ci/run"):
        assert TEST_COMMAND in (ROOT / name).read_text(encoding="utf-8")


def test_pins_name_no_place() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    named = [line for line in pins if not line.startswith("#")]
    assert "torch==2.13.0" in named
    for line in named:
        name, _, version = line.partition("==")
        assert name
        assert version
        assert not set(line) & set("@/+")
