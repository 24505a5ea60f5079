"""Sizes of a tiny vision-language model; read by the builder and by nobody else."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Family = Literal["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "llava_next"]

IMAGE_TOKEN_PX = 28
"""Pixels along one edge of the image square that becomes one image token, in every family."""

VLLM_CPU_HEAD_DIMS = (32, 64, 80, 96, 112, 128)
"""Attention head widths that vLLM's CPU backend serves (and that are small enough to be of use here)."""


class TinyVLMConfig(BaseModel):
    """Architecture of one tiny model.

    The defaults give about 0.34 M parameters and nine tokens per square image (LLaVA-NeXT: 51).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Family = "qwen2_5_vl"
    """Architecture: Qwen2-VL, Qwen2.5-VL, Qwen3-VL, LLaVA-1.5 or LLaVA-NeXT, which is LLaVA-1.6 (both a CLIP tower and
    a Llama text model)."""

    hidden_size: int = Field(default=64, ge=32, le=1024)
    """Width of the text model, in units."""

    layers: int = Field(default=2, ge=1, le=32)
    """Text layers."""

    heads: int = Field(default=2, ge=1, le=32)
    """Attention heads of the text model; `hidden_size / heads` must be a width vLLM serves."""

    intermediate_size: int = Field(default=192, ge=32, le=8192)
    """Width of the text model's gated MLP, in units."""

    vision_hidden_size: int = Field(default=64, ge=32, le=1024)
    """Width of the vision tower, in units."""

    vision_layers: int = Field(default=1, ge=1, le=32)
    """Layers of the vision tower."""

    vision_heads: int = Field(default=2, ge=1, le=32)
    """Attention heads of the vision tower."""

    vision_intermediate_size: int = Field(default=128, ge=32, le=8192)
    """Width of the vision tower's MLP, in units."""

    initializer_range: float = Field(default=0.15, gt=0.0, le=1.0)
    """Standard deviation of the initial weights, text and vision. At the usual 0.02 a model this small learns
    the format of the responses and ignores the image; at 0.15 it reads digits after 100 updates, at 0.1 or
    0.2 a little later."""

    vocab_size: int = Field(default=1024, ge=320, le=32768)
    """Upper bound on the tokenizer's entries, special tokens and the 256 bytes included, in tokens."""

    image_px: int = Field(default=84, ge=IMAGE_TOKEN_PX, le=448, multiple_of=IMAGE_TOKEN_PX)
    """Edge of the square that the processor resizes a square image to, in pixels; in LLaVA-NeXT, which looks at four
    tiles and the whole, of one tile."""

    max_position_embeddings: int = Field(default=4096, ge=1024, le=131072)
    """Longest sequence the text model accepts, in tokens. Costs no parameters."""

    @property
    def image_tokens(self) -> int:
        """Tokens that a square image expands to (LLaVA-NeXT: one larger than a tile)."""
        edge = self.image_px // IMAGE_TOKEN_PX
        # The whole, two by two tiles, and a newline after each row of the tiles' tokens.
        return edge**2 + (2 * edge) ** 2 + 2 * edge if self.family == "llava_next" else edge**2

    @property
    def head_dim(self) -> int:
        """Width of one text attention head, in units."""
        return self.hidden_size // self.heads

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.hidden_size % self.heads or self.head_dim not in VLLM_CPU_HEAD_DIMS:
            raise ValueError(
                f"hidden_size / heads is {self.hidden_size} / {self.heads}; vLLM on a CPU serves head widths "
                f"{VLLM_CPU_HEAD_DIMS} only: choose hidden_size = heads * one of them"
            )
        if self.vision_hidden_size % (4 * self.vision_heads):
            raise ValueError(
                f"vision_hidden_size / vision_heads is {self.vision_hidden_size} / {self.vision_heads}; it "
                "must be a multiple of 4, the two rotated halves of the row and column positions"
            )
        if self.family == "qwen2_vl" and self.vision_intermediate_size % self.vision_hidden_size:
            raise ValueError(
                f"vision_intermediate_size is {self.vision_intermediate_size}; Qwen2-VL takes whole multiples of "
                f"vision_hidden_size, which is {self.vision_hidden_size}"
            )
        return self
