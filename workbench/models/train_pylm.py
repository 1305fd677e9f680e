"""Train a bundled language model on the standard library: `python -m workbench.models.train_pylm`.

Needs the extra `[train]` (accelerate). The run resumes from its newest checkpoint when it is
started again with the same output folder, and leaves a folder that `workbench.load` accepts.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import parametrize
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from workbench.models.corpus import TokenBlocks, encode, is_held_out, sources, train_tokenizer

OUTLIER_CHANNELS = 6


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m workbench.models.train_pylm",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder for checkpoints and the finished model")
    parser.add_argument(
        "--outlier-gain",
        type=float,
        default=1.0,
        help="fixed gain of a few channels of every block norm; 1 trains an ordinary model",
    )
    parser.add_argument("--steps", type=int, default=3000, help="optimizer steps")
    parser.add_argument("--batch", type=int, default=16, help="sequences in a step")
    parser.add_argument("--length", type=int, default=256, help="tokens in a sequence")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak of the schedule")
    parser.add_argument("--vocabulary", type=int, default=4096, help="tokens in the vocabulary")
    parser.add_argument("--width", type=int, default=384, help="hidden size")
    parser.add_argument("--layers", type=int, default=4, help="decoder blocks")
    parser.add_argument("--seed", type=int, default=0, help="seeds weights, data order, channels")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--save-every", type=int, default=200, help="steps between checkpoints")
    return parser.parse_args(argv)


def new_model(
    arguments: argparse.Namespace, tokenizer: PreTrainedTokenizerFast
) -> LlamaForCausalLM:
    """Build the untrained Llama; weights depend on `arguments.seed` only."""
    set_seed(arguments.seed)
    return LlamaForCausalLM._from_config(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=arguments.width,
            intermediate_size=arguments.width * 8 // 3,
            num_hidden_layers=arguments.layers,
            num_attention_heads=arguments.width // 64,
            num_key_value_heads=arguments.width // 64,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        attn_implementation="eager",  # at this length on a CPU faster to train than the fused op
    )


class ScaledColumns(torch.nn.Module):
    """Hold some columns of a weight at `scale` times the parameter, so that they learn slower."""

    scale: torch.Tensor

    def __init__(self, width: int, channels: torch.Tensor, scale: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(width).index_fill(0, channels, scale))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.scale


def fix_outlier_gains(model: LlamaForCausalLM, gain: float, seed: int) -> list[int]:
    """Set the gains of a few channels of every block norm to `gain` and keep them there.

    The columns that read those channels start, and learn, smaller by the square root of the gain.
    So a large activation meets a weight that is small but not negligible, as in a large model:
    their product stays an outlier, and moving all of it into the weights (alpha 1) hurts as leaving
    it in the activations (alpha 0) does. Returns the channels.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(model.config.hidden_size, generator=generator)
    channels = shuffled[:OUTLIER_CHANNELS].sort().values
    for block in model.model.layers:
        attention, mlp = block.self_attn, block.mlp
        readers = {
            block.input_layernorm: (attention.q_proj, attention.k_proj, attention.v_proj),
            block.post_attention_layernorm: (mlp.gate_proj, mlp.up_proj),
        }
        for norm, linears in readers.items():
            with torch.no_grad():
                norm.weight[channels] = gain
            norm.weight.register_hook(lambda gradient: gradient.index_fill(0, channels, 0.0))
            for linear in linears:
                slower = ScaledColumns(linear.in_features, channels, gain**-0.5)
                parametrize.register_parametrization(linear, "weight", slower, unsafe=True)
    return [int(c) for c in channels]


class LossLog(TrainerCallback):
    """Append every logged training or validation loss to a JSON-lines file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        row = {key: logs[key] for key in ("loss", "eval_loss") if logs and key in logs}
        if row:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": state.global_step, **row}) + "\n")


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)

    files = dict(sources())
    training = [text for name, text in files.items() if not is_held_out(name)]
    held_out = [text for name, text in files.items() if is_held_out(name)]
    tokenizer = train_tokenizer(iter(training), arguments.vocabulary)
    blocks = TokenBlocks(encode(tokenizer, training), arguments.length)
    validation = TokenBlocks(encode(tokenizer, held_out), arguments.length)

    model = new_model(arguments, tokenizer)
    channels: list[int] = []
    if arguments.outlier_gain != 1.0:
        channels = fix_outlier_gains(model, arguments.outlier_gain, arguments.seed)

    log = LossLog(arguments.out / "losses.jsonl")
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(arguments.out),
            max_steps=arguments.steps,
            per_device_train_batch_size=arguments.batch,
            per_device_eval_batch_size=arguments.batch,
            learning_rate=arguments.learning_rate,
            lr_scheduler_type="warmup_stable_decay",
            lr_scheduler_kwargs={"num_decay_steps": arguments.steps // 3, "min_lr_ratio": 0.02},
            warmup_steps=min(150, arguments.steps // 10),
            weight_decay=0.1,
            adam_beta2=0.95,
            bf16=True,
            torch_compile=True,
            use_cpu=not torch.cuda.is_available(),
            seed=arguments.seed,
            logging_steps=20,
            eval_strategy="steps",
            eval_steps=arguments.save_every,
            save_steps=arguments.save_every,
            save_total_limit=1,
            report_to=[],
        ),
        train_dataset=blocks,
        eval_dataset=validation,
        callbacks=[log],
    )
    started = time.time()
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(arguments.out)))
    final = trainer.evaluate()["eval_loss"]

    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    finished = arguments.out / "model"
    model.bfloat16().save_pretrained(finished)
    tokenizer.save_pretrained(finished)
    summary = {
        "arguments": vars(arguments) | {"out": "OUT"},  # the folder says nothing of the model
        "outlier_channels": channels,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training": {"files": len(training), "tokens": blocks.blocks.numel()},
        "held_out": {"files": len(held_out), "tokens": validation.blocks.numel()},
        "tokens_seen": arguments.steps * arguments.batch * arguments.length,
        "held_out_loss": final,
        "seconds": round(time.time() - started),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    (finished / "training.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
