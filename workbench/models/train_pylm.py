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
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.trainer_utils import get_last_checkpoint

from workbench.models.corpus import TokenBlocks, encode, is_held_out, sources, train_tokenizer

ATTENTION = "eager"  # at this length on a CPU faster to train than the fused op
OUTLIER_CHANNELS = 6
FLOOR_WEIGHT = 0.3  # nats for each squared nat that a row falls short of the floor


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
    parser.add_argument(
        "--start",
        type=Path,
        help="folder of a finished model to start from",
    )
    parser.add_argument(
        "--outlier-floor",
        type=float,
        default=0.0,
        help="least strength of the outlier channels in every row, as a multiple of the others'; "
        "for a second stage, since a model that has yet to learn would not",
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
    """Build the Llama to train: the one of `arguments.start`, else one drawn from the seed."""
    set_seed(arguments.seed)
    if arguments.start is not None:
        return LlamaForCausalLM.from_pretrained(
            arguments.start, dtype=torch.float32, attn_implementation=ATTENTION
        )
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
        attn_implementation=ATTENTION,
    )


class ScaledColumns(torch.nn.Module):
    """Hold some columns of a weight at `scale` times the parameter, so that they learn slower."""

    scale: torch.Tensor

    def __init__(self, width: int, channels: torch.Tensor, scale: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(width).index_fill(0, channels, scale))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.scale

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / self.scale


class Outliers:
    """Outlier channels as large models have them: large activations that meet no small weights.

    The gains of a few channels of every block norm are held at `gain`, and the columns that read
    them start, and learn, smaller by the square root of it. Training alone then shrinks those
    columns until little is left to move between activations and weights. A second stage, which
    starts from a finished model, adds `shortfall` to the loss: it keeps the product of activation
    and weight an outlier, so that moving all of it into the weights (alpha 1) hurts as leaving it
    in the activations (alpha 0) does. From the first step on it would keep the model from learning.
    """

    def __init__(self, model: LlamaForCausalLM, arguments: argparse.Namespace) -> None:
        generator = torch.Generator().manual_seed(arguments.seed)
        shuffled = torch.randperm(model.config.hidden_size, generator=generator)
        self.channels = shuffled[:OUTLIER_CHANNELS].sort().values
        self.gain, self.floor = arguments.outlier_gain, arguments.outlier_floor
        self.fresh = arguments.start is None
        self.readers: list[tuple[LlamaRMSNorm, tuple[torch.nn.Linear, ...]]] = []
        self.activations: dict[torch.nn.Module, torch.Tensor] = {}
        for block in model.model.layers:
            attention, mlp = block.self_attn, block.mlp
            self._hold(
                block.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            self._hold(block.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj))

    def _hold(self, norm: LlamaRMSNorm, linears: tuple[torch.nn.Linear, ...]) -> None:
        channels, scale = self.channels, self.gain**-0.5
        with torch.no_grad():
            norm.weight[channels] = self.gain
            if self.fresh:
                for linear in linears:
                    linear.weight[:, channels] *= scale
        norm.weight.register_hook(lambda gradient: gradient.index_fill(0, channels, 0.0))
        for linear in linears:
            slower = ScaledColumns(linear.in_features, channels, scale)
            parametrize.register_parametrization(linear, "weight", slower)
        if self.floor:
            norm.register_forward_hook(self._keep)
        self.readers.append((norm, linears))

    def _keep(self, norm: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        self.activations[norm] = output.float().square().mean((0, 1)).sqrt()

    def shortfall(self) -> torch.Tensor:
        """Mean square, in nats, of what the rows of the reading weights lack to the floor.

        A channel's strength in a row is the root mean square of its activation, in the last forward
        pass, times the row's weight; a row's, that of the outlier channels together over the root
        mean square of the others. (A floor for whole columns is met by a few huge rows.)
        """
        lacks = []
        for norm, linears in self.readers:
            weight = torch.cat([linear.weight for linear in linears])
            squares = (weight * self.activations[norm]).square()
            outliers = squares[:, self.channels].sum(1)
            others = (squares.sum(1) - outliers) / (squares.shape[1] - len(self.channels))
            lacks.append(0.5 * (self.floor**2 * others.detach() / outliers).log())
        return torch.cat(lacks).clamp_min(0).square().mean()


class PylmTrainer(Trainer):
    """Train with the shortfall of the outlier channels added to the loss; evaluate without."""

    def __init__(self, *, outliers: Outliers | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.outliers = outliers

    def compute_loss(self, model: torch.nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss that is differentiated."""
        loss: Any = super().compute_loss(model, inputs, *args, **kwargs)
        if self.outliers is None or not self.outliers.floor or not model.training:
            return loss
        return loss + FLOOR_WEIGHT * self.outliers.shortfall()


def first_stage(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """The record of the model that the run started from."""
    if arguments.start is None:
        return None
    record: dict[str, Any] = json.loads((arguments.start / "training.json").read_text())
    return record


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
    if arguments.start is not None:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.start)
    else:
        tokenizer = train_tokenizer(iter(training), arguments.vocabulary)
    blocks = TokenBlocks(encode(tokenizer, training), arguments.length)
    validation = TokenBlocks(encode(tokenizer, held_out), arguments.length)

    model = new_model(arguments, tokenizer)
    outliers: Outliers | None = None
    if arguments.outlier_gain != 1.0:
        outliers = Outliers(model, arguments)

    log = LossLog(arguments.out / "losses.jsonl")
    trainer = PylmTrainer(
        outliers=outliers,
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
        # Where the run lay says nothing of the model; what it started from does.
        "arguments": vars(arguments) | {"out": "OUT", "start": first_stage(arguments)},
        "outlier_channels": outliers.channels.tolist() if outliers else [],
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
