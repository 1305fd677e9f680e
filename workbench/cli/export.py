"""`workbench export`: a model as the files that other engines take."""

import argparse

EXPORT = """\
Write a model as another engine takes it. A checkpoint (a bundled name, folder or hub id) goes out
as it is, float or quantized; a recipe (*.json) is carried out first. What the engine could not load
or would compute otherwise is refused before a byte is written, with the layer and the rule.
"""

EXPORT_EXAMPLES = """\
examples:
  workbench export pylm --to gguf pylm-gguf
  workbench export workbench-out/pylm-o1 --to compressed-tensors for-vllm
  workbench export recipe.json --to onnx for-onnxruntime
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    export = commands.add_parser(
        "export",
        help="write a model as vLLM, llama.cpp, ONNX Runtime or OpenVINO take it",
        description=EXPORT,
        epilog=EXPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("model", metavar="CHECKPOINT_OR_RECIPE", help="what to export")
    export.add_argument(
        "--to", required=True, metavar="FORMAT",
        help="compressed-tensors (vLLM), gguf (llama.cpp), onnx (ONNX Runtime), openvino, or "
        "executorch (float models)",
    )  # fmt: skip
    export.add_argument("out", metavar="OUT", help="the folder to write, replaced in one step")
    export.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    from transformers.utils import logging

    from workbench.console import Bars
    from workbench.export import export, exporter_named
    from workbench.models import load
    from workbench.progress import reporting
    from workbench.recipe import Recipe
    from workbench.session import Session

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    exporter_named(arguments.to)  # before minutes of calibration
    with Bars() as bars, reporting(bars):
        if arguments.model.endswith(".json"):
            session = Session(Recipe.load(arguments.model))
            try:
                loaded, model = session.load(), session.freeze()
            finally:
                session.close()
        else:
            loaded = load(arguments.model)
            model = loaded.model
        example = None
        if loaded.tokenizer is not None:
            example = loaded.batches("calibration", samples=2, length=16)[0]
        done = export(
            model, arguments.out, format=arguments.to, tokenizer=loaded.tokenizer, example=example
        )
    print(f"{done.folder}: {done.format}, {done.bytes / 1e6:.1f} MB")
    for note in done.notes:
        print(f"Note: {note}")
    return 0
