"""A policy is init/apply over a tree of parameters: the decoder, its log-probs, its tokenizer."""

from gdpo_jax.policies.chat import render_chat
from gdpo_jax.policies.config import DecoderConfig, RopeScaling
from gdpo_jax.policies.decoder import check_layer, decoder_policy
from gdpo_jax.policies.families import gemma3, llama3, qwen3, qwen25, smollm2
from gdpo_jax.policies.files.adapters import (
    AdapterFolder,
    load_adapters,
    open_adapters,
    save_adapters,
)
from gdpo_jax.policies.files.gguf import smollm2_path
from gdpo_jax.policies.files.pretrained import (
    Pretrained,
    load_pretrained,
    open_pretrained,
    save_pretrained,
)
from gdpo_jax.policies.log_probs import completion_log_probs
from gdpo_jax.policies.lora import (
    LoraConfig,
    lora_apply,
    lora_init,
    lora_merge,
    lora_policy,
    merged_by_layer,
)
from gdpo_jax.policies.partial import (
    TrainedMask,
    join_params,
    partial_policy,
    split_params,
)
from gdpo_jax.policies.placement import (
    DEFAULT_RULES,
    ShardingRules,
    cut_weights,
    gather_weights,
    gathered_bytes,
    pin_rows,
    split_vocabulary,
)
from gdpo_jax.policies.policy import (
    Params,
    Placement,
    Policy,
    num_params,
    trained_part,
    with_trained_part,
)
from gdpo_jax.policies.states import POOLINGS, layer_states, pooled, states_behind_layers
from gdpo_jax.policies.steering import steered_policy, with_sign, with_steering
from gdpo_jax.policies.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

__all__ = [
    "DEFAULT_RULES",
    "POOLINGS",
    "AdapterFolder",
    "DecoderConfig",
    "LoraConfig",
    "Params",
    "Placement",
    "Policy",
    "Pretrained",
    "RopeScaling",
    "ShardingRules",
    "Tokenizer",
    "TrainedMask",
    "check_layer",
    "completion_log_probs",
    "cut_weights",
    "decoder_policy",
    "gather_weights",
    "gathered_bytes",
    "gemma3",
    "join_params",
    "layer_states",
    "llama3",
    "load_adapters",
    "load_pretrained",
    "load_tokenizer",
    "lora_apply",
    "lora_init",
    "lora_merge",
    "lora_policy",
    "merged_by_layer",
    "num_params",
    "open_adapters",
    "open_pretrained",
    "partial_policy",
    "pin_rows",
    "pooled",
    "qwen3",
    "qwen25",
    "render_chat",
    "save_adapters",
    "save_pretrained",
    "smollm2",
    "smollm2_path",
    "split_params",
    "split_vocabulary",
    "states_behind_layers",
    "steered_policy",
    "train_tokenizer",
    "trained_part",
    "with_sign",
    "with_steering",
    "with_trained_part",
]
