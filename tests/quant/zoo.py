"""Tiny randomly initialised models of many architectures, each with inputs to run it on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY = 97
Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """How to build a model, and how to draw a batch for it."""

    build: Callable[[], nn.Module]
    draw: Callable[[torch.Generator], Inputs]

    def model(self) -> nn.Module:
        """The model, in evaluation mode; the same weights every time."""
        torch.manual_seed(0)
        model = self.build().eval()
        # transformers draws matrices so small (0.02) that layers hardly add to the residual stream,
        # gains of 1 and biases of 0. All three hide mistakes.
        for parameter in model.parameters():
            if parameter.dim() < 2:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
            elif 0 < parameter.std() < 0.03:
                parameter.data.mul_(parameter[0].numel() ** -0.5 / parameter.std())
        return model

    def batches(self, count: int, seed: int = 0) -> list[Inputs]:
        """Draw `count` batches."""
        g = torch.Generator().manual_seed(seed)
        return [self.draw(g) for _ in range(count)]


def tokens(g: torch.Generator, name: str = "input_ids", length: int = 12) -> Inputs:
    return {name: torch.randint(3, VOCABULARY, (2, length), generator=g)}


def both(g: torch.Generator) -> Inputs:
    return tokens(g) | tokens(g, "decoder_input_ids", 5)


def noise(**shapes: tuple[int, ...]) -> Callable[[torch.Generator], Inputs]:
    """Normal inputs of these names and shapes."""
    return lambda g: {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}


BASE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = BASE | {"num_key_value_heads": 2, "head_dim": 8}
IMAGE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
}
STACKS = {  # an encoder and a decoder
    "vocab_size": VOCABULARY,
    "d_model": 32,
    **{f"{stack}_layers": 2 for stack in ("encoder", "decoder")},
    **{f"{stack}_attention_heads": 4 for stack in ("encoder", "decoder")},
    **{f"{stack}_ffn_dim": 64 for stack in ("encoder", "decoder")},
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def of(config: str, model: str, **values: Any) -> Callable[[], nn.Module]:
    """A transformers model with these values in its configuration."""

    def build() -> nn.Module:
        import transformers

        return getattr(transformers, model)(getattr(transformers, config)(**values))

    return build


def text(kind: str, suffix: str = "ForCausalLM", config: str | None = None, **values: Any) -> Case:
    return Case(of(config or f"{kind}Config", kind + suffix, **values), tokens)


def stages(kind: str, **values: Any) -> Case:
    """A classifier of images in two stages."""
    build = of(
        f"{kind}Config",
        f"{kind}ForImageClassification",
        image_size=32,
        depths=[1, 1],
        num_labels=5,
        **values,
    )
    return Case(build, noise(pixel_values=(2, 3, 32, 32)))


def clip() -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    return CLIPModel(CLIPConfig(text_config=BASE, vision_config=IMAGE, projection_dim=16))


def diffusers(kind: str, **values: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import diffusers

        return getattr(diffusers, kind)(**values)

    return build


UNET = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}


def denoise(more: Callable[[torch.Generator], Inputs]) -> Callable[[torch.Generator], Inputs]:
    """Inputs of a denoising model: noise and a time, and what `more` draws."""

    def draw(g: torch.Generator) -> Inputs:
        return {"timestep": torch.randint(0, 1000, (2,), generator=g)} | more(g)

    return draw


class Encoder(nn.Module):
    """torch's own transformer."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, src: Tensor) -> Tensor:
        return self.encoder(src)


class Attention(nn.Module):
    """torch's attention, reading and writing widths of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Linear(32, 16)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        return self.head(self.attention(query, memory, memory, need_weights=False)[0])


class Recurrent(nn.Module):
    """torch's recurrent layers, one on another."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 24, 2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(48, 32, batch_first=True)
        self.rnn = nn.RNN(32, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.gru(self.lstm(x)[0])[0])[0]


ZOO: dict[str, Case] = {
    # text decoders
    "llama": text("Llama", **GROUPED, tie_word_embeddings=True),
    "gpt2": text(
        "GPT2", "LMHeadModel", vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64
    ),
    "mistral": text("Mistral", **GROUPED),
    "qwen3": text("Qwen3", **GROUPED),
    "gemma3": text("Gemma3", config="Gemma3TextConfig", **GROUPED, query_pre_attn_scalar=8),
    "phi": text("Phi", **BASE),
    "opt": text("OPT", **(BASE | {"ffn_dim": 64, "word_embed_proj_dim": 32})),
    "gpt_neox": text("GPTNeoX", **BASE),
    "falcon": text("Falcon", **BASE),
    "bloom": text("Bloom", vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4),
    # mixtures of experts
    "mixtral": text("Mixtral", **GROUPED, num_local_experts=4, num_experts_per_tok=2),
    "qwen3_moe": text(
        "Qwen3Moe",
        **GROUPED,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        decoder_sparse_step=1,
    ),
    "gpt_oss": text("GptOss", **GROUPED, num_local_experts=4, num_experts_per_tok=2),
    # state spaces
    "mamba": text(
        "Mamba", vocab_size=VOCABULARY, hidden_size=32, state_size=4, num_hidden_layers=2
    ),
    "mamba2": text(
        "Mamba2",
        vocab_size=VOCABULARY,
        hidden_size=32,
        state_size=8,
        num_hidden_layers=2,
        num_heads=8,
        head_dim=8,
        n_groups=2,
        chunk_size=8,
        pad_token_id=0,
    ),
    # text encoders
    "bert": text("Bert", "ForMaskedLM", **BASE),
    "roberta": text("Roberta", "Model", **BASE),
    "distilbert": text(
        "DistilBert", "Model", vocab_size=VOCABULARY, dim=32, hidden_dim=64, n_layers=2, n_heads=4
    ),
    "deberta_v2": text(
        "DebertaV2",
        "Model",
        **BASE,
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
    ),
    "modernbert": text("ModernBert", "Model", **BASE, cls_token_id=1, sep_token_id=2),
    "xlnet": text(
        "XLNet",
        "LMHeadModel",
        vocab_size=VOCABULARY,
        d_model=32,
        n_layer=2,
        n_head=4,
        d_head=8,
        d_inner=64,
    ),
    "funnel": text(
        "Funnel",
        "Model",
        vocab_size=VOCABULARY,
        block_sizes=[1, 1],
        d_model=32,
        n_head=4,
        d_head=8,
        d_inner=64,
        num_decoder_layers=1,
        max_position_embeddings=64,
    ),
    # encoder-decoders
    "t5": Case(
        of(
            "T5Config",
            "T5ForConditionalGeneration",
            vocab_size=VOCABULARY,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            decoder_start_token_id=0,
        ),
        both,
    ),
    "bart": Case(
        of("BartConfig", "BartForConditionalGeneration", **STACKS, max_position_embeddings=64), both
    ),
    # vision
    "vit": Case(of("ViTConfig", "ViTModel", **IMAGE), noise(pixel_values=(2, 3, 16, 16))),
    "clip": Case(clip, lambda g: tokens(g) | noise(pixel_values=(2, 3, 16, 16))(g)),
    "convnext": stages("ConvNext", num_stages=2, hidden_sizes=[16, 32]),
    "resnet": stages("ResNet", embedding_size=16, hidden_sizes=[16, 32], layer_type="basic"),
    "swin": stages("Swin", patch_size=4, embed_dim=16, num_heads=[2, 4], window_size=4),
    # audio
    "whisper": Case(
        of(
            "WhisperConfig",
            "WhisperForConditionalGeneration",
            **STACKS,
            num_mel_bins=8,
            max_source_positions=16,
            max_target_positions=16,
        ),
        lambda g: noise(input_features=(2, 8, 32))(g) | tokens(g, "decoder_input_ids", 5),
    ),
    "wav2vec2": Case(
        of(
            "Wav2Vec2Config",
            "Wav2Vec2Model",
            **{k: v for k, v in BASE.items() if k != "max_position_embeddings"},
            conv_dim=[16, 16],
            conv_stride=[4, 2],
            conv_kernel=[8, 3],
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
        ),
        noise(input_values=(2, 256)),
    ),
    # torch's own
    "torch_encoder": Case(Encoder, noise(src=(2, 6, 32))),
    "torch_attention": Case(Attention, noise(query=(2, 3, 32), memory=(2, 6, 32))),
    "torch_recurrent": Case(Recurrent, noise(x=(2, 9, 16))),
    # diffusion
    "unet": Case(
        diffusers(
            "UNet2DModel",
            **UNET,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ),
        denoise(noise(sample=(2, 3, 8, 8))),
    ),
    "unet_condition": Case(
        diffusers(
            "UNet2DConditionModel",
            **UNET,
            cross_attention_dim=16,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        denoise(noise(sample=(2, 4, 8, 8), encoder_hidden_states=(2, 5, 16))),
    ),
    "dit": Case(
        diffusers(
            "DiTTransformer2DModel",
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            sample_size=8,
            num_embeds_ada_norm=10,
            norm_num_groups=4,
        ),
        denoise(
            lambda g: (
                noise(hidden_states=(2, 4, 8, 8))(g)
                | {"class_labels": torch.randint(0, 10, (2,), generator=g)}
            )
        ),
    ),
}
