"""What each field of a config.json means here: read, legal with one value only, or harmless.

A field in none of the tables is refused unless it is null, false or empty.
"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What an absent field of these families stands for.
DEFAULTS = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 128},
    "gemma3_text": {
        "vocab_size": 262_208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
        "tie_word_embeddings": True,
        "sliding_window": 4096,
        "query_pre_attn_scalar": 256,
        "rope_theta": 1_000_000.0,
    },
}

# Fields that the configuration of the decoder is made of.
READ = _names(
    """
    architectures model_type vocab_size hidden_size intermediate_size num_hidden_layers
    num_attention_heads num_key_value_heads head_dim max_position_embeddings rms_norm_eps
    tie_word_embeddings rope_theta rope_scaling rope_parameters layer_types dtype torch_dtype
    bos_token_id eos_token_id pad_token_id
    """
)
READ_GEMMA = READ | _names(
    """
    sliding_window sliding_window_pattern _sliding_window_pattern query_pre_attn_scalar
    rope_local_base_freq
    """
)

_OFF = (False, None)
_NONE = (None, 0)
# Fields whose other values mean another computation, with the values that the decoder computes.
FIXED = {
    "hidden_act": ("silu", "swish"),
    "attention_bias": _OFF,
    "mlp_bias": _OFF,
    "use_sliding_window": _OFF,
    "rope_interleaved": _OFF,
    "partial_rotary_factor": (1.0, None),
    "rotary_pct": (1.0, None),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "is_causal": (True, None),
    "use_qk_norm": _OFF,
    "add_cross_attention": _OFF,
    "is_encoder_decoder": _OFF,
    "pruned_heads": ({}, None),
    "auto_map": (None, {}),
    "quantization_config": (None,),
    "compression_config": (None,),
    "quantization": (None,),
    "num_experts": _NONE,
    "num_local_experts": _NONE,
}
FIXED_OF = {
    "llama": FIXED,
    # Queries, keys and values have biases whatever this field says.
    "qwen2": {**FIXED, "attention_bias": (True, False, None)},
    "qwen3": {**FIXED, "use_qk_norm": (True, None)},
    "gemma3_text": {
        **FIXED,
        "hidden_act": ("gelu_pytorch_tanh", None),
        "hidden_activation": ("gelu_pytorch_tanh",),
        "use_bidirectional_attention": _OFF,
        "use_qk_norm": (True, None),
    },
}

# Fields that change no logits: notes, how transformers runs or trains a model, and defaults of its
# `generate`, whose place here is taken by `SamplerConfig`.
HARMLESS = _names(
    """
    _name_or_path name_or_path _commit_hash transformers_version _attn_implementation
    _attn_implementation_autoset attn_implementation _attn_implementation_internal
    _experts_implementation _flash_attn_2_enabled use_flash_attention_2 _output_attentions
    transformers.js_config unsloth_version unsloth_fixed is_llama_config model_max_length
    initializer_range attention_dropout hidden_dropout hidden_dropout_prob resid_pdrop embd_pdrop
    gradient_checkpointing pretraining_tp use_cache cache_implementation max_window_layers
    id2label label2id num_labels _num_labels problem_type classifier_dropout task_specific_params
    finetuning_task return_dict use_return_dict output_hidden_states output_attentions torchscript
    use_bfloat16 tf_legacy_loss chunk_size_feed_forward is_decoder tie_encoder_decoder
    tokenizer_class prefix sep_token_id unk_token_id decoder_start_token_id max_length min_length
    do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    min_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores
    return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values
    exponential_decay_length_penalty suppress_tokens begin_suppress_tokens
    """
)
# Without use_sliding_window, Qwen's files still give the size of the window.
HARMLESS_OF = {
    "llama": HARMLESS,
    "qwen2": HARMLESS | {"sliding_window"},
    "qwen3": HARMLESS | {"sliding_window"},
    "gemma3_text": HARMLESS,
}

# The outer object of a multimodal Gemma 3, of which text_config is the language model.
READ_MULTIMODAL = _names(
    """
    architectures model_type text_config dtype torch_dtype tie_word_embeddings bos_token_id
    eos_token_id pad_token_id
    """
)
FIXED_MULTIMODAL = {
    name: FIXED[name]
    for name in ("auto_map", "quantization_config", "compression_config", "quantization")
}
HARMLESS_MULTIMODAL = HARMLESS | _names(
    """
    vision_config mm_tokens_per_image image_token_index image_token_id boi_token_index
    boi_token_id eoi_token_index eoi_token_id
    """
)

__all__ = [
    "DEFAULTS",
    "FIXED_MULTIMODAL",
    "FIXED_OF",
    "HARMLESS_MULTIMODAL",
    "HARMLESS_OF",
    "READ",
    "READ_GEMMA",
    "READ_MULTIMODAL",
]
