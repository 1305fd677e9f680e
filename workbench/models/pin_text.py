"""Pin the bundled text: `python -m workbench.models.pin_text` copies this project's own code.

Run once, before a release whose figures should start afresh: every bundled figure rests on the result.
"""

import argparse
import ast
import json
import shutil
from pathlib import Path

import torch

from workbench.models.bundled import DATA, bundled
from workbench.models.prompts import LIST, PROMPT_TOKENS
from workbench.models.text import Split, files

PROMPTS = 200
COMPLETION_TOKENS = 64
SMALLEST = 900  # bytes; shorter files are mostly imports

# By folder, so that the halves have little in common beyond their authors.
FOLDERS: dict[Split, tuple[str, ...]] = {
    "calibration": ("graph", "metrics", "observe", "ops", "smooth", "widgets"),
    "evaluation": ("compare", "models", "quant", "recipe", "session"),
}


def copy_code(package: Path) -> None:
    """Copy the modules of `package` into the calibration and the evaluation folder."""
    for split, folders in FOLDERS.items():
        target = DATA / "text" / split
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for folder in folders:
            for path in sorted((package / folder).rglob("*.py")):
                if path.stat().st_size >= SMALLEST:
                    name = "_".join(path.relative_to(package).with_suffix("").parts)
                    shutil.copyfile(path, target / f"{name}.py.txt")


def list_prompts(seed: int = 0) -> list[dict[str, str | int]]:
    """Draw the prompts: starts of top-level statements that enough tokens follow."""
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
            if len(ids) >= PROMPT_TOKENS + COMPLETION_TOKENS:
                starts.append({"file": name, "start": start})
    order = torch.randperm(len(starts), generator=torch.Generator().manual_seed(seed))
    return [starts[index] for index in sorted(order[:PROMPTS].tolist())]


def main() -> None:
    """Copy the code, then list the prompts."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench.models.pin_text", description=__doc__
    )
    parser.add_argument("package", type=Path, help="the folder workbench/ of a checkout")
    copy_code(parser.parse_args().package)
    files.cache_clear()
    rows = ",\n".join(json.dumps(row) for row in list_prompts())
    LIST.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
