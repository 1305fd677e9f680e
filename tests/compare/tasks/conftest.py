"""A folder of small task files in the form of the real ones, and a model with its tokenizer."""

import json
from pathlib import Path

import pytest

import workbench as wb

FILES = {
    "lambada/lambada_openai.jsonl": [
        {"context": f"def add(a, b):\n    return a + {'b' * n}", "continuation": "b"}
        for n in range(1, 6)
    ],
    "arc_easy/arc_easy.jsonl": [
        {"query": f"Question: what is {n}?", "choices": ["a number", "an animal"], "gold": n % 2}
        for n in range(6)
    ],
    "openbookqa/openbook_qa.jsonl": [
        {"query": "A list holds", "choices": ["items", "water", "light"], "gold": 0},
        {"query": "A class has", "choices": ["wheels", "methods"], "gold": 1},
    ],
    "boolq/val.jsonl": [
        {"question": "is it so", "passage": "It is so.", "label": "true"},
        {"question": "is it not", "passage": "It is so.", "label": "false"},
    ],
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tasks")
    for name, rows in FILES.items():
        path = root / name
        path.parent.mkdir()
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "sst2").mkdir()
    (root / "sst2/test.tsv").write_text('sentence\tlabel\na "fine film\t1\nbad\t0\n')
    (root / "agnews").mkdir()
    (root / "agnews/test.tsv").write_text(
        "The team won the match.\tSports\nThey lost the game at home.\tSports\n"
        "Shares fell on the stock market.\tBusiness\nStocks dropped as the market fell.\tBusiness\n"
    )
    return root


@pytest.fixture(scope="session")
def pylm() -> wb.LoadedModel:
    return wb.load("pylm")
