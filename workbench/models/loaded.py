"""A model together with what is needed to feed it."""

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench import metrics
from workbench.errors import WorkbenchError
from workbench.models import own_text
from workbench.models import text as pinned
from workbench.models.bundled import Kind
from workbench.models.images import batched, drawn
from workbench.models.prompts import Prompt, prompts
from workbench.models.text import Split
from workbench.progress import track

if TYPE_CHECKING:
    from PIL.Image import Image

TEXT_TOKENS = 256


@dataclass
class LoadedModel:
    """A model in evaluation mode, its tokenizer, and the pinned data to calibrate and judge it.

    One that looks at pictures has an image `processor` instead of a tokenizer, and no pinned data.
    """

    name: str
    model: nn.Module
    tokenizer: Any
    kind: Kind
    note: str
    folder: Path | None
    processor: Any = None

    @property
    def reader(self) -> Any:
        """What makes inputs of what people give, and is saved with the model; None for neither."""
        return self.processor if self.tokenizer is None else self.tokenizer

    def batches(
        self,
        split: Split,
        *,
        samples: int | None = None,
        length: int = 256,
        batch_size: int = 8,
        text: Path | str | None = None,
        text_sha256: str | None = None,
        dataset: str | None = None,
        subset: str | None = None,
        column: str = "text",
        images: Path | str | None = None,
        seed: int = 0,
    ) -> list[dict[str, Tensor]]:
        """Make the keyword inputs of a split: sequences of `length` tokens, `batch_size` at a time.

        `seed` draws `samples` of them, None takes all. With `text`, the path of a UTF-8 file, that
        file instead of the pinned text (and no other content than that of `text_sha256`, if given);
        with `dataset` the `column` of the training rows of that data set, by hub id or local
        folder, and its `subset`. One sentence a line or row, unless for a language model. A model
        that looks at pictures takes the PNG and JPEG files in the folder `images`, and no others.
        Calibration and evaluation text never overlap. Raises WorkbenchError where the text is
        empty, unreadable, shorter than one sequence, or shares lines with what models are judged
        on.
        """
        if self.kind == "image-classifier":
            if images is None or text is not None or dataset is not None:
                raise WorkbenchError(
                    f"{self.name} looks at pictures, and none come with the workbench: name a "
                    "folder of PNG or JPEG files, and no text (`images`, in a recipe "
                    "`calibration.images`)"
                )
            return self.picture_batches(drawn(images, split, samples, seed), batch_size)
        if images is not None:
            raise WorkbenchError(f"{self.name} reads text: it has no use for images {images}")
        if self.tokenizer is None:
            raise WorkbenchError(
                f"{self.name} has no tokenizer, and what comes with the workbench is text; give "
                "batches of your own to the functions (observe, quantize, Calibration, compare)"
            )
        own = self._own_texts(text, text_sha256, dataset, subset, column)
        by_sentence = self.kind != "causal-lm"
        if own is not None and split == "calibration":
            own_text.refuse_held_out("\n".join(own), str(text or dataset), by_sentence=by_sentence)
        arguments = (length, samples, batch_size, seed)
        if by_sentence:
            lines = list(pinned.sentences(split))
            if own is not None:
                lines = [line for part in own for line in part.splitlines() if line.strip()]
            return pinned.sentence_batches(self.tokenizer, lines, *arguments)
        sources = list(pinned.files(split).values()) if own is None else own
        return pinned.token_batches(self.tokenizer, sources, *arguments)

    def picture_batches(
        self, pictures: "list[Image]", batch_size: int = 8
    ) -> list[dict[str, Tensor]]:
        """The keyword inputs of `pictures`, in order; raises WorkbenchError without a processor."""
        if self.processor is None:
            raise WorkbenchError(
                f"{self.name} has no image processor: it takes a preprocessor_config.json beside "
                "the model, and Pillow (`pip install 'quantization-workbench[images]'`)"
            )
        return batched(self.processor, pictures, batch_size)

    def _own_texts(
        self,
        text: Path | str | None,
        sha256: str | None,
        dataset: str | None,
        subset: str | None,
        column: str,
    ) -> list[str] | None:
        if text is not None and dataset is not None:
            raise WorkbenchError(f"text {text} and data set {dataset!r} exclude each other: choose")
        if text is not None:
            return [own_text.read_text(text, sha256)]
        if dataset is not None:
            return own_text.read_dataset(dataset, subset, column)
        return None

    def tokens(self, split: Split, text: Path | str | None = None) -> list[int]:
        """The tokens of a split, or of the UTF-8 file `text`, in one row."""
        sources = (
            list(pinned.files(split).values()) if text is None else [own_text.read_text(text, None)]
        )
        return pinned.token_ids(self.tokenizer, sources)

    def text_batches(self, texts: list[str], batch_size: int = 32) -> list[dict[str, Tensor]]:
        """The keyword inputs of `texts`, in order, cut at 256 tokens and padded batch by batch."""
        return pinned.sentence_batches(self.tokenizer, texts, TEXT_TOKENS, None, batch_size, 0)

    def sentences(self, split: Split) -> list[str]:
        """The pinned English sentences of a split."""
        return list(pinned.sentences(split))

    def prompts(self) -> list[Prompt]:
        """The 200 pinned prompts for language models of Python."""
        return prompts(self.tokenizer)

    def copy(self) -> nn.Module:
        """A new module tree that shares the original's tensors, which verbs never write to."""
        return share(self.model)

    @torch.no_grad()
    def embed(self, model: nn.Module, texts: list[str]) -> Tensor:
        """Mean-pooled, normalized embeddings [n, d] of `texts`, as sentence encoders are used."""
        if self.kind != "encoder":
            raise WorkbenchError(f"{self.name} is a {self.kind}; only encoders make embeddings")
        made = []
        for batch in track(self.text_batches(texts), "embedding"):
            hidden = model(**batch).last_hidden_state
            made.append(metrics.mean_pool(hidden, batch["attention_mask"]))
        return nn.functional.normalize(torch.cat(made), dim=-1)

    @cached_property
    def parameters_count(self) -> int:
        """Number of parameters, shared ones counted once."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def bytes(self) -> int:
        """Bytes of the parameters in memory."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())


def share(model: nn.Module) -> nn.Module:
    """Copy the module tree of `model`; parameters and buffers stay the very same tensors."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
