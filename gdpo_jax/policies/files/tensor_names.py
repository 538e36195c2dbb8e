"""Where every parameter of a decoder lies in published files: names, merged and swapped axes.

Files hold a matrix for each layer as [outputs, inputs] with heads and head size merged; a decoder
holds [inputs, heads, head size], stacked over layers.
"""

import dataclasses
from collections.abc import Collection
from typing import NamedTuple

from gdpo_jax.errors import UserError
from gdpo_jax.policies.config import DecoderConfig

Path = tuple[str, ...]
EMBEDDING = "embed_tokens.weight"


@dataclasses.dataclass(frozen=True)
class Stored:
    """One parameter in a file.

    name: of the file's tensor, with {} where the number of the layer stands. axes: for each axis of
    that tensor, the axes of one layer's parameter that it merges, in order.
    """

    name: str
    axes: tuple[tuple[int, ...], ...]

    @property
    def stacked(self) -> bool:
        """Whether there is one tensor for each layer."""
        return "{}" in self.name


VECTOR = ((0,),)
MATRIX = ((1,), (0,))
INTO_HEADS = ((1, 2), (0,))
OUT_OF_HEADS = ((2,), (0, 1))
HEADS = ((0, 1),)
TABLE = ((0,), (1,))

_SHARED: dict[Path, tuple[str, tuple[tuple[int, ...], ...]]] = {
    ("layers", "query"): ("q_proj", INTO_HEADS),
    ("layers", "key"): ("k_proj", INTO_HEADS),
    ("layers", "value"): ("v_proj", INTO_HEADS),
    ("layers", "out"): ("o_proj", OUT_OF_HEADS),
    ("layers", "gate"): ("gate_proj", MATRIX),
    ("layers", "up"): ("up_proj", MATRIX),
    ("layers", "down"): ("down_proj", MATRIX),
}
_GGUF_LAYER = {
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "out": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def module_name(target: str) -> str:
    """The Hugging Face module of a layer's matrix, as "self_attn.q_proj" for "query"."""
    name, _ = _SHARED["layers", target]
    part = "self_attn" if target in ("query", "key", "value", "out") else "mlp"
    return f"{part}.{name}"


class Layout(NamedTuple):
    """Where a checkpoint keeps the decoder: what stands before its tensors' names, and its head."""

    body: str
    head: str


PLAIN = Layout("model.", "lm_head.weight")
# Of multimodal Gemma 3: as published, and as transformers 4.52 and later save it.
MULTIMODAL_LAYOUTS = (
    Layout("language_model.model.", "language_model.lm_head.weight"),
    Layout("model.language_model.", "lm_head.weight"),
)
# What such a checkpoint has besides the language model.
OTHER_PARTS = (
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
)


def find_layout(names: Collection[str], multimodal: bool, where: str) -> Layout:
    """The layout that a checkpoint's tensor names follow. Raises UserError where none fits."""
    layouts = MULTIMODAL_LAYOUTS if multimodal else (PLAIN,)
    found = [layout for layout in layouts if f"{layout.body}{EMBEDDING}" in names]
    if len(found) == 1:
        return found[0]
    wanted = " or ".join(f"{layout.body}{EMBEDDING}" for layout in layouts)
    if found:
        raise UserError(f"{where} has two language models, which contradict each other: {wanted}")
    others = sorted(name for name in names if name.endswith(EMBEDDING))
    raise UserError(
        f"the tensors of {where} do not fit: there is no {wanted}; "
        f"embeddings found: {', '.join(others[:3]) or 'none'}"
    )


def hub_tensors(config: DecoderConfig, layout: Layout = PLAIN) -> dict[Path, Stored]:
    """Every parameter in a Hugging Face checkpoint."""
    layer = f"{layout.body}layers.{{}}."
    norms = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    if config.post_norms:
        norms = {
            "attention_norm": "input_layernorm",
            "attention_post_norm": "post_attention_layernorm",
            "mlp_norm": "pre_feedforward_layernorm",
            "mlp_post_norm": "post_feedforward_layernorm",
        }
    if config.qk_norm:
        norms |= {"query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}
    found = {
        ("embedding",): Stored(f"{layout.body}{EMBEDDING}", TABLE),
        ("final_norm", "scale"): Stored(f"{layout.body}norm.weight", VECTOR),
    }
    for path, (_, axes) in _SHARED.items():
        found[path] = Stored(f"{layer}{module_name(path[1])}.weight", axes)
    for ours, theirs in norms.items():
        found["layers", ours, "scale"] = Stored(f"{layer}{theirs}.weight", VECTOR)
    if config.attention_bias:
        for target in ("query", "key", "value"):
            found["layers", f"{target}_bias"] = Stored(f"{layer}{module_name(target)}.bias", HEADS)
    if not config.tie_embeddings:
        found["head",] = Stored(layout.head, MATRIX)
    return found


def gguf_tensors(config: DecoderConfig) -> dict[Path, Stored]:
    """Every parameter in a GGUF file of the llama architecture."""
    found = {
        ("embedding",): Stored("token_embd.weight", TABLE),
        ("final_norm", "scale"): Stored("output_norm.weight", VECTOR),
        ("layers", "attention_norm", "scale"): Stored("blk.{}.attn_norm.weight", VECTOR),
        ("layers", "mlp_norm", "scale"): Stored("blk.{}.ffn_norm.weight", VECTOR),
    }
    for path, (_, axes) in _SHARED.items():
        found[path] = Stored(f"blk.{{}}.{_GGUF_LAYER[path[1]]}.weight", axes)
    if not config.tie_embeddings:
        found["head",] = Stored("output.weight", MATRIX)
    return found
