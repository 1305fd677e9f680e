"""A byte-level BPE tokenizer in GGUF's words, as llama.cpp reads it."""

import json
from typing import Any

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How text is cut into words before merging: llama.cpp has these built in, by name.
SPLITS = {None: "gpt-2", LLAMA3: "llama-bpe", LLAMA3.replace("{1,3}", ""): "qwen2"}

NO_VOCABULARY = (
    "The tokenizer is no byte-level BPE; the file holds weights alone, and llama.cpp takes token "
    "ids from the tokenizer beside it."
)
OTHER_SPLIT = (
    "llama.cpp has no pre-tokenizer that cuts text as this tokenizer does, and would take GPT-2's: "
    "feed it token ids from the tokenizer beside the file, not text."
)


def add_vocabulary(writer: Any, tokenizer: Any, size: int) -> tuple[str, ...]:
    """Say the `size` tokens and the merges of `tokenizer`; return what the user should know."""
    import gguf

    known = _byte_level(tokenizer)
    if known is None:
        writer.add_tokenizer_model("no_vocab")
        return () if tokenizer is None else (NO_VOCABULARY,)
    kinds = gguf.TokenType
    tokens = [f"[UNUSED{index}]" for index in range(size)]
    types = [kinds.UNUSED] * size
    for token, index in tokenizer.get_vocab().items():
        if index < size:
            tokens[index], types[index] = token, kinds.NORMAL
    for added in known["added_tokens"]:
        if added["id"] < size:
            types[added["id"]] = kinds.CONTROL if added["special"] else kinds.USER_DEFINED
    split = _split(known)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(SPLITS.get(split, "gpt-2"))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = known["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_add_bos_token(tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id])
    for end in ("bos", "eos", "unk", "pad"):
        index = getattr(tokenizer, f"{end}_token_id")
        if index is not None:
            getattr(writer, f"add_{end}_token_id")(index)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
    return () if split in SPLITS else (OTHER_SPLIT,)


def _byte_level(tokenizer: Any) -> dict[str, Any] | None:
    """The tokenizers library's description of a byte-level BPE, None for any other kind."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    said: dict[str, Any] = json.loads(backend.to_str())
    bytewise = any(step["type"] == "ByteLevel" for step in _steps(said))
    return said if said["model"]["type"] == "BPE" and bytewise else None


def _steps(said: dict[str, Any]) -> list[dict[str, Any]]:
    step = said["pre_tokenizer"] or {"type": "none"}
    return step["pretokenizers"] if step["type"] == "Sequence" else [step]


def _split(said: dict[str, Any]) -> str | None:
    """The expression that cuts words, None for GPT-2's own."""
    patterns = [step["pattern"].get("Regex", "") for step in _steps(said) if "pattern" in step]
    return "|".join(patterns) if patterns else None
