"""What the readers of checkpoints share."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import nn

from workbench.errors import WorkbenchError
from workbench.models.bundled import Kind
from workbench.models.hub import explained

# By how the name of the class ends that config.json names; whatever else is an encoder.
HEADS: dict[str, Kind] = {
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForSequenceClassification": "classifier",
    "ForImageClassification": "image-classifier",
}


@dataclass
class Opened:
    """A model in evaluation mode, its tokenizer if there is one, and what a user must know."""

    model: nn.Module
    tokenizer: Any
    kind: Kind
    note: str = ""


class Reader(Protocol):
    """One kind of checkpoint."""

    @staticmethod
    def reads(folder: Path) -> bool:
        """Whether `folder` holds one."""

    @staticmethod
    def open(folder: Path, dtype: torch.dtype) -> Opened:
        """Load it, with float weights as `dtype`; raises WorkbenchError where it is damaged."""


def method(folder: Path) -> str | None:
    """The quantization method that config.json names."""
    said = read_json(folder / "config.json").get("quantization_config") or {}
    return said.get("quant_method") if isinstance(said, dict) else None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty if there is no file; raises WorkbenchError for damage."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise WorkbenchError(f"{path} is damaged: it holds no object")
    return values


def float_config(folder: Path) -> Any:
    """The config of the model in `folder`, without what it says of quantization."""
    from transformers import AutoConfig  # slow to import

    values = read_json(folder / "config.json")
    values.pop("quantization_config", None)
    try:
        return AutoConfig.for_model(values.pop("model_type"), **values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkbenchError(f"{folder / 'config.json'} is damaged: {error}") from error


def from_transformers(
    where: str, name: str, dtype: torch.dtype, config: Any = None, exact: bool = False
) -> Opened:
    """Let transformers load a model, and refuse weights it had to make up.

    `exact` asks for the very class that was saved, else encoders come without their heads.
    """
    from transformers import AutoConfig, AutoTokenizer  # slow to import

    try:
        config = AutoConfig.from_pretrained(where) if config is None else config
        found, kind = model_class(config, exact)
        model, info = found.from_pretrained(
            where,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below
        )
        tokenizer = AutoTokenizer.from_pretrained(where) if has_tokenizer(Path(where)) else None
    except WorkbenchError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise WorkbenchError(explained(name, error)) from error
    refuse_misfits(name, info, exact)
    return Opened(model.eval(), tokenizer, kind)


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer, of any kind, lies beside the model."""
    patterns = ("tokenizer*", "vocab.*", "spiece.model", "sentencepiece*")
    return any(path.is_file() for pattern in patterns for path in folder.glob(pattern))


def refuse_misfits(name: str, info: dict[str, Any], exact: bool) -> None:
    """Raise WorkbenchError for the first tensor that is missing, of another shape, or left over."""
    for key, found, needed in sorted(info["mismatched_keys"]):
        raise WorkbenchError(
            f"{key} has shape {tuple(found)} in {name}; its config needs {tuple(needed)}"
        )
    # A pooler is for classification; encoders are used here through their hidden states.
    for key in sorted(info["missing_keys"]):
        if exact or "pooler." not in key:
            raise WorkbenchError(f"the weights of {name} do not fit its config: {key} is missing")
    for key in sorted(info["unexpected_keys"]) if exact else ():
        raise WorkbenchError(f"{name} holds {key}, which the model has no place for")


def model_class(config: Any, exact: bool = False) -> tuple[Any, Kind]:
    """The transformers class to load with: the one whose head config.json names, if any."""
    import transformers

    names = getattr(config, "architectures", None) or []
    kinds = (kind for head, kind in HEADS.items() if any(name.endswith(head) for name in names))
    kind: Kind = next(kinds, "encoder")
    known = getattr(transformers, names[0], None) if names and exact else None
    if known is not None:
        return known, kind
    autos = {
        "causal-lm": transformers.AutoModelForCausalLM,
        "encoder": transformers.AutoModel,
        "classifier": transformers.AutoModelForSequenceClassification,
        "image-classifier": transformers.AutoModelForImageClassification,
    }
    return autos[kind], kind
