"""The model card of a checkpoint: README.md as the hub of Hugging Face reads it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData, metadata_load

from workbench.models.manifest import Manifest

README = "README.md"


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint comes from, and what was measured of it: nothing, unless said.

    `base` is the model it was made of, `hub_id` the same on the hub if it lies there, `license`
    that of the base. `figures` were measured `on` some data.
    """

    base: str | None = None
    hub_id: str | None = None
    license: str | None = None
    figures: Mapping[str, float | int] = field(default_factory=dict)
    on: str = ""


def license_of(folder: Path | None) -> str | None:
    """The license that the card in `folder` states, None where it states none."""
    if folder is None or not (folder / README).is_file():
        return None
    try:
        found = metadata_load(folder / README) or {}
    except (OSError, ValueError, yaml.YAMLError):  # what others wrote need not be readable
        return None
    stated = found.get("license")
    return stated if isinstance(stated, str) else None


def card(name: str, manifest: Manifest, origin: Origin, recipe: str | None, config: Any) -> str:
    """The text of the card for the checkpoint in the folder `name`; `config` None for plain torch.

    What is not known is left out, and what was not measured is said to be so.
    """
    entries = manifest.quantization_map.values()
    kinds = Counter(map(_scheme, entries))
    dtypes = {str(entry["weights"]["dtype"]) for entry in entries if entry.get("weights")}
    data = ModelCardData(
        base_model=origin.hub_id,
        base_model_relation="quantized" if origin.hub_id and kinds else None,
        library_name="transformers" if config is not None else "quantization-workbench",
        license=origin.license,
        tags=["quantization-workbench", *(["quantized", *sorted(dtypes)] if kinds else [])],
    )
    parts = [f"---\n{data.to_yaml()}\n---", f"# {_inline(name)}"]
    made = f" from {_inline(origin.base)}" if origin.base else ""
    what = "quantized" if kinds else "saved, not quantized,"
    parts.append(f"A model {what}{made} with quantization-workbench.")
    if manifest.note:
        parts.append(f"**Caution:** {_inline(manifest.note)}")
    if kinds:
        rows = [f"| {scheme} | {count} |" for scheme, count in kinds.items()]
        parts.append("\n".join(["| scheme | modules |", "|---|---|", *rows]))
    parts += ["## Evaluation", _evaluation(origin), "## Use", _use(config)]
    if recipe is not None:
        parts += ["## Recipe", f"```json\n{recipe.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _scheme(entry: Mapping[str, Any]) -> str:
    weights, inputs = entry.get("weights"), entry.get("activations")
    said = [f"weights {_args(weights)}" if weights else "weights float"]
    said.append(f"activations {_args(inputs)}" if inputs else "activations float")
    return ", ".join(said)


def _args(args: Mapping[str, Any]) -> str:
    words = [str(args["dtype"]), f"by {args['granularity']}"]
    words += [f"of {args['group_size']}"] if args.get("group_size") else []
    return " ".join([*words, *(["as they come"] if args.get("dynamic") else [])])


def _evaluation(origin: Origin) -> str:
    if not origin.figures:
        return "Not evaluated."
    rows = [f"| {name.replace('_', ' ')} | {value:.6g} |" for name, value in origin.figures.items()]
    table = ["| measure | value |", "|---|---|", *rows]
    return f"Measured beside the original on {origin.on}.\n\n" + "\n".join(table)


def _use(config: Any) -> str:
    lines = [
        "# pip install quantization-workbench",
        "import workbench as wb",
        "",
        'lm = wb.load("path/of/this/folder")',
    ]
    if config is None:
        lines[-1] = 'model = wb.load_into(model, "path/of/this/folder")  # the float model'
    return "```python\n" + "\n".join(lines) + "\n```"


def _inline(text: str) -> str:
    """One line that Markdown shows as it is."""
    plain = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#|" else letter for letter in plain)
