"""Tasks of lm-evaluation-harness over local files, for machines that cannot reach its data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.compare.tasks.documents import Choice, Continuation, Document, YesOrNo, drawn, read
from workbench.errors import WorkbenchError


@dataclass(frozen=True)
class LocalTask:
    """How the harness asks `document`s, which lie in `file` one JSON object a line."""

    file: str
    document: type[Document]
    prompt: dict[str, Any]

    def documents(self, folder: Path, limit: int | None, seed: int) -> list[Document]:
        """Read the file below `folder` and draw `limit` documents; see `documents.read`."""
        return drawn(read(folder / self.file, self.document.model_validate_json), limit, seed)


ACCURACY = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
NORMALIZED = {**ACCURACY, "metric": "acc_norm"}
PERPLEXITY = {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}

# The prompts are those of the harness's own tasks of the same names.
LOCAL: dict[str, LocalTask] = {
    "lambada_openai": LocalTask(
        "lambada/lambada_openai.jsonl",
        Continuation,
        {
            "output_type": "loglikelihood",
            "doc_to_text": "{{context}}",
            "doc_to_target": "{{' ' + continuation}}",
            "metric_list": [ACCURACY, PERPLEXITY],
        },
    ),
    "arc_easy": LocalTask(
        "arc_easy/arc_easy.jsonl",
        Choice,
        {
            "output_type": "multiple_choice",
            "doc_to_text": "{{query}}\nAnswer:",
            "doc_to_target": "{{gold}}",
            "doc_to_choice": "{{choices}}",
            "metric_list": [ACCURACY, NORMALIZED],
        },
    ),
    "openbookqa": LocalTask(
        "openbookqa/openbook_qa.jsonl",
        Choice,
        {
            "output_type": "multiple_choice",
            "doc_to_text": "{{query}}",
            "doc_to_target": "{{gold}}",
            "doc_to_choice": "{{choices}}",
            "metric_list": [ACCURACY, NORMALIZED],
        },
    ),
    "boolq": LocalTask(
        "boolq/val.jsonl",
        YesOrNo,
        {
            "output_type": "multiple_choice",
            "doc_to_text": "{{passage}}\nQuestion: {{question}}?\nAnswer:",
            "doc_to_target": "{{label | int}}",
            "doc_to_choice": ["no", "yes"],
            "metric_list": [ACCURACY],
        },
    ),
}


def local_task(name: str, folder: Path, limit: int | None, seed: int) -> dict[str, Any]:
    """The configuration by which the harness runs task `name` over the file below `folder`.

    Raises WorkbenchError where there is no such task or its file is not as it must be.
    """
    if name not in LOCAL:
        raise WorkbenchError(f"task {name!r} has no local form; allowed: {', '.join(LOCAL)}")
    task = LOCAL[name]
    rows = [document.model_dump() for document in task.documents(folder, limit, seed)]

    def dataset(**_: Any) -> Any:
        from datasets import Dataset, DatasetDict

        return DatasetDict({"test": Dataset.from_list(rows)})

    return {"task": name, "custom_dataset": dataset, "test_split": "test", **task.prompt}
