"""Pin the bundled text: `python -m workbench.compare.pin_text .` copies this project's own code.

Run once, before a release whose figures should start afresh: they all rest on the result.
"""

import argparse
import ast
import json
import shutil
from pathlib import Path

import torch

from workbench.compare.completion import parses
from workbench.models.bundled import DATA, bundled
from workbench.models.prompts import LIST, PROMPT_TOKENS
from workbench.models.text import Split, files

PROMPTS = 200
COMPLETION_TOKENS = 64
SMALLEST = 900  # bytes; shorter files are mostly imports

# By folder, so that the halves have little in common beyond their authors.
FOLDERS: dict[Split, tuple[str, ...]] = {
    "calibration": (
        "workbench/graph",
        "workbench/metrics",
        "workbench/observe",
        "workbench/ops",
        "workbench/smooth",
        "tests/graph",
        "tests/smooth",
    ),
    "evaluation": (
        "workbench/compare",
        "workbench/quant",
        "workbench/session",
        "workbench/recipe",
        "tests/compare",
        "tests/models",
        "tests/observe",
        "tests/quant",
        "tests/recipe",
        "tests/session",
    ),
}


def copy_code(checkout: Path) -> None:
    """Copy modules and tests of a checkout into the calibration and the evaluation folder."""
    for split, folders in FOLDERS.items():
        target = DATA / "text" / split
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for folder in folders:
            for path in sorted((checkout / folder).rglob("*.py")):
                if path.stat().st_size >= SMALLEST:
                    name = "_".join(path.relative_to(checkout).with_suffix("").parts)
                    shutil.copyfile(path, target / f"{name}.py.txt")


def list_prompts(seed: int = 0) -> list[dict[str, str | int]]:
    """Draw the prompts: starts of top-level statements whose true continuation would count.

    So a perfect model would score all of them; which they are depends on the text alone.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bundled["pylm"].folder())
    starts = []
    for name, text in files("evaluation").items():
        lines = [0]
        for line in text.splitlines(keepends=True):
            lines.append(lines[-1] + len(line))
        for node in ast.parse(text).body:
            decorators = getattr(node, "decorator_list", [])
            start = lines[min([node.lineno, *(d.lineno for d in decorators)]) - 1]
            ids = tokenizer(text[start:], add_special_tokens=False)["input_ids"]
            end = PROMPT_TOKENS + COMPLETION_TOKENS
            prompt, truth = (
                str(tokenizer.decode(part))
                for part in (ids[:PROMPT_TOKENS], ids[PROMPT_TOKENS:end])
            )
            if len(ids) >= end and parses(prompt, truth):
                starts.append({"file": name, "start": start})
    order = torch.randperm(len(starts), generator=torch.Generator().manual_seed(seed))
    return [starts[index] for index in sorted(order[:PROMPTS].tolist())]


def main() -> None:
    """Copy the code, then list the prompts."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench.compare.pin_text", description=__doc__
    )
    parser.add_argument("checkout", type=Path, help="folder of a checkout of this project")
    copy_code(parser.parse_args().checkout)
    files.cache_clear()
    rows = ",\n".join(json.dumps(row) for row in list_prompts())
    LIST.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
