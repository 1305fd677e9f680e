"""The training text of the bundled language models: the standard library of this interpreter."""

import ast
import hashlib
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
HELD_OUT_SHARE = 0.02
LARGEST_FILE = 400_000  # bytes; past that the standard library holds tables, not code

# A line break takes its indentation along, so that a step of nesting costs one token.
PIECES = Regex(r"\n\s*| ?[\p{L}_]+| ?\p{N}+| ?[^\s\p{L}\p{N}_]+|[^\S\n]+")


def sources() -> Iterator[tuple[str, str]]:
    """Yield `(path, text)` of every standard-library module that parses, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(root.rglob("*.py")):
            name = path.relative_to(root).as_posix()
            if "site-packages" in name or not 200 < path.stat().st_size < LARGEST_FILE:
                continue
            try:
                text = path.read_text(encoding="utf-8").replace("\t", "    ")
                ast.parse(text)
            except (UnicodeDecodeError, SyntaxError, ValueError):
                continue
            yield name, text


def is_held_out(name: str) -> bool:
    """Decide by file name alone which modules are kept for validation."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on `texts`; lossless on any UTF-8 input."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(PIECES, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=sys.stderr.isatty(),
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


class TokenBlocks(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Consecutive blocks of `length` tokens from one long stream; inputs and labels coincide."""

    def __init__(self, tokens: np.ndarray, length: int) -> None:
        self.blocks = torch.from_numpy(
            tokens[: len(tokens) // length * length].astype(np.int64)
        ).view(-1, length)

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.blocks[index], "labels": self.blocks[index]}


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    """Join `texts` into one token stream, each opened by the end-of-text token."""
    start = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    assert isinstance(start, int)
    stream: list[int] = []
    for encoding in tokenizer.backend_tokenizer.encode_batch(texts):
        stream.append(start)
        stream.extend(encoding.ids)
    return np.array(stream, dtype=np.uint16)
