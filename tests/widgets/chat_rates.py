"""A cell for a real kernel: a chat of a random Llama in W8 and W4 beside bare decoding, in turns.

Prints JSON: by way of decoding and variant the milliseconds of a token, a figure a round. The ways
are a bare loop of forwards, `generate` with nobody listening, and the chat widget.
"""

import json
import time

import torch
from IPython.display import display
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation.streamers import BaseStreamer

import workbench as wb
from workbench.models.loaded import LoadedModel
from workbench.session import Session
from workbench.widgets import ChatView

BLOCKS, ROUNDS, TOKENS = 22, 24, 24  # 22 blocks of these widths are a billion parameters
PROMPT = "def area(width, height):"
INT4 = wb.QuantArgs(dtype="int4", granularity="group", group_size=128, symmetric=True)


def llama(weights) -> LlamaForCausalLM:
    """A random model, made and quantized block by block."""
    config = LlamaConfig(
        vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=BLOCKS,
        num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=False,
        eos_token_id=None, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)

    def filled(module):
        module.to_empty(device="cpu")
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.uniform_(-0.04, 0.04)
        return module

    def quantized(module):
        holder = torch.nn.ModuleList([filled(module)])
        wb.quantize(holder, weights=weights, optimizer=wb.AbsmaxOptimizer())
        wb.freeze(holder)
        return holder[0]

    torch.manual_seed(0)
    for place, block in enumerate(model.model.layers):
        model.model.layers[place] = quantized(block)
    model.lm_head = quantized(model.lm_head)
    filled(model.model.embed_tokens)
    filled(model.model.norm)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval()


class Ready(Session):
    """A session whose original and quantized models are there already."""

    def load(self):
        self.loaded = LoadedModel("llama", models["W8"], tokenizer, "causal-lm", "", None)
        return self.loaded

    def freeze(self):
        return models["W4"]


class Stamps(BaseStreamer):
    """Notes when tokens come; the prompt comes first."""

    def __init__(self) -> None:
        self.at = []

    def put(self, value) -> None:
        self.at.append(time.perf_counter())

    def end(self) -> None:
        pass


@torch.inference_mode()
def looped(model) -> float:
    out = model(input_ids=ids, use_cache=True)
    start = time.perf_counter()
    for _ in range(TOKENS - 1):
        token = out.logits[:, -1:].argmax(-1)
        out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
    return (time.perf_counter() - start) / (TOKENS - 1)


@torch.inference_mode()
def generated(model) -> float:
    stamps = Stamps()
    model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS,
        do_sample=False, pad_token_id=0, streamer=stamps,
    )  # fmt: skip
    return (stamps.at[-1] - stamps.at[1]) / (TOKENS - 1)


def chatted() -> list[float]:
    chat.forget()
    job = chat.ask(PROMPT).wait()
    assert job.state == "done", job.error
    return [1 / answer["rate"] for answer in chat.turns[-1]["answers"]]


WAYS = {
    "loop": lambda: [looped(model) for model in models.values()],
    "generate": lambda: [generated(model) for model in models.values()],
    "chat": chatted,
}

tokenizer = wb.load("pylm").tokenizer
models = {"W8": llama("int8"), "W4": llama(INT4)}
session = Ready(wb.Recipe(model="pylm").with_scheme("none").with_alpha(None))
session.load()
chat = ChatView(session, max_new_tokens=TOKENS)
display(chat)
ids = tokenizer(PROMPT, add_special_tokens=False, return_tensors="pt")["input_ids"]
found = {way: {name: [] for name in models} for way in WAYS}
order = list(WAYS)
for turn in range(ROUNDS + 1):
    order.append(order.pop(0))  # so that each way follows each other one
    for way in order:
        times = WAYS[way]()
        for name, seconds in zip(models, times, strict=True):
            if turn:  # the first warms up
                found[way][name].append(1e3 * seconds)
print(json.dumps(found))  # noqa: T201 - the test reads it
