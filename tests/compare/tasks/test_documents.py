"""Files of tasks that are not as they must be: which line, what was found, what is allowed."""

import pytest

from workbench.compare.tasks.documents import Choice, Continuation, YesOrNo, drawn, read
from workbench.compare.tasks.labels import read_table
from workbench.errors import WorkbenchError


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        (Continuation, '{"context": "a"}', r"line 2: continuation: Field required"),
        (Continuation, '{"context": "", "continuation": "b"}', r"line 2: context: .*at least 1"),
        (
            Choice,
            '{"query": "q", "choices": ["a", "b"], "gold": 2}',
            r"gold is 2, but .* 2 choices",
        ),
        (Choice, '{"query": "q", "choices": ["a", "b"], "gold": -1}', r"line 2: gold: .*found -1"),
        (Choice, '{"query": "q", "choices": ["a"], "gold": 0}', r"line 2: choices: "),
        (YesOrNo, '{"passage": "p", "question": "q", "label": "maybe"}', r"label: .*'maybe'"),
        (YesOrNo, "not json", r"line 2: Invalid JSON"),
    ],
)
def test_a_bad_line_is_named(kind, line, message, tmp_path) -> None:
    good = {
        Continuation: '{"context": "a", "continuation": "b"}',
        Choice: '{"query": "q", "choices": ["a", "b"], "gold": 1}',
        YesOrNo: '{"passage": "p", "question": "q", "label": true}',
    }[kind]
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(WorkbenchError, match=message):
        read(path, kind.model_validate_json)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "no document"), (b"\n\n", "no document"), (b"\xff\xfe", "UTF-8")]
)
def test_a_file_without_documents(content, message, tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(WorkbenchError, match=message):
        read(path, Choice.model_validate_json)
    with pytest.raises(WorkbenchError, match="cannot be read"):
        read(tmp_path / "missing.jsonl", Choice.model_validate_json)


def test_a_table_keeps_quotes_and_names_its_columns(tmp_path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('sentence\tlabel\nthe "best\t1\nbad\t0\n')
    rows = read_table(path, "sentence", "label", None)
    assert [(row.text, row.label) for row in rows] == [('the "best', "1"), ("bad", "0")]
    with pytest.raises(WorkbenchError, match=r"no column 'text'; its columns are: sentence, label"):
        read_table(path, "text", "label", None)
    path.write_text("sentence\tlabel\nlonely\n")
    with pytest.raises(WorkbenchError, match=r"line 2: label"):
        read_table(path, "sentence", "label", None)
    path.write_text("sentence\tlabel\n")
    with pytest.raises(WorkbenchError, match="no document"):
        read_table(path, "sentence", "label", None)


def test_draws_are_repeatable_and_in_order() -> None:
    rows = [Continuation(context=str(n), continuation="x") for n in range(100)]
    found = drawn(rows, 10, seed=1)
    assert found == drawn(rows, 10, seed=1) != drawn(rows, 10, seed=2)
    assert [int(row.context) for row in found] == sorted(int(row.context) for row in found)
    assert drawn(rows, None, 0) == drawn(rows, 1000, 0) == rows
    with pytest.raises(WorkbenchError, match="limit is 0"):
        drawn(rows, 0, 0)
