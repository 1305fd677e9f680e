"""A language model in another engine, in the place of the torch model: it generates, is judged."""

import pytest
import torch

import workbench as wb
from workbench.compare.tasks import evaluate
from workbench.errors import WorkbenchError
from workbench.export import export
from workbench.metrics import sqnr_db

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

PROMPT = "def area(width, height):\n"
PER_TOKEN = wb.QuantArgs(granularity="token", dynamic=True)
IN_GROUPS = wb.QuantArgs(dtype="int4", granularity="group", group_size=128, symmetric=False)
CASES = {  # format, weights, activations, and how near the logits must be, in dB
    "W8A8 per token, ONNX": ("onnx", "int8", PER_TOKEN, 35),
    "W4 in groups, ONNX": ("onnx", IN_GROUPS, None, 90),
    "W8A8 per token, OpenVINO": ("openvino", "int8", PER_TOKEN, 35),
}
ENGINES = {"onnx": ("ONNX Runtime", "model.onnx"), "openvino": ("OpenVINO", "openvino_model.xml")}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def pair(case, tmp_path_factory):
    """`pylm` in one scheme, the same loaded from its export, and how near the logits must be."""
    name, weights, activations, floor = case
    loaded = wb.load("pylm")
    model = loaded.copy()
    wb.quantize(model, weights, activations, exclude="lm_head")
    wb.freeze(model)
    folder = tmp_path_factory.mktemp(name) / "pylm"
    export(model, folder, format=name, tokenizer=loaded.tokenizer)
    return model, wb.load(folder), floor


def test_logits_are_those_of_the_torch_model(pair, case) -> None:
    model, exported, floor = pair
    assert exported.kind == "causal-lm"
    assert ENGINES[case[0]][0] in exported.note
    batch = exported.batches("evaluation", samples=3, length=40)[0]
    with torch.no_grad():
        assert sqnr_db(model(**batch).logits, exported.model(**batch).logits) > floor
        one = batch["input_ids"][:1]  # without a mask
        assert sqnr_db(model(one).logits, exported.model(one).logits) > floor


def test_the_cache_gives_what_the_whole_text_gives(pair) -> None:
    _, exported, _ = pair
    ids = exported.batches("evaluation", samples=2, length=24)[0]["input_ids"]
    whole = exported.model(ids).logits
    first = exported.model(ids[:, :17])
    assert first.past_key_values.get_seq_length() == 17
    rest = exported.model(ids[:, 17:], past_key_values=first.past_key_values)
    assert sqnr_db(whole[:, 17:], rest.logits) > 90


def test_it_generates_the_same_text_from_padded_prompts(pair) -> None:
    model, exported, _ = pair
    tokenizer = exported.tokenizer
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    batch = dict(tokenizer([PROMPT, "import os"], padding=True, return_tensors="pt"))
    batch.pop("token_type_ids", None)
    how = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
    assert torch.equal(exported.model.generate(**batch, **how), model.generate(**batch, **how))


def test_a_pipeline_and_a_chat_take_it(pair) -> None:
    from transformers import pipeline

    from workbench.chat import Chat, ChatSettings

    model, exported, _ = pair
    assert type(exported.model).__name__ == "LlamaForCausalLM"  # or a pipeline complains at length
    writer = pipeline("text-generation", model=exported.model, tokenizer=exported.tokenizer)
    [found] = writer(PROMPT, max_new_tokens=8, do_sample=False)
    chat = Chat(
        {"torch": model, "exported": exported.model},
        exported.tokenizer,
        ChatSettings(max_new_tokens=8),
    )
    ours, theirs = chat.ask(PROMPT)
    assert ours.tokens == theirs.tokens
    assert found["generated_text"].endswith(theirs.text)


def test_tasks_judge_it(pair) -> None:
    model, exported, _ = pair
    ours, theirs = (
        evaluate(one, exported, ["perplexity"], limit=4)[0] for one in (model, exported.model)
    )
    assert ours.mean == pytest.approx(theirs.mean, abs=2e-3)


def test_a_damaged_file_is_told_of(pair, case, tmp_path) -> None:
    import shutil

    _, exported, _ = pair
    folder = tmp_path / "damaged"
    shutil.copytree(exported.folder, folder)
    (folder / ENGINES[case[0]][1]).write_bytes(b"no graph")
    with pytest.raises(WorkbenchError, match="damaged"):
        wb.load(folder)
