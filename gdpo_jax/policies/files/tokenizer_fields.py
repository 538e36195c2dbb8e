"""Every field of the files beside tokenizer.json, and what becomes of it.

A field that is in none of these tables is refused by name, unless it is null or false: it may
change ids or text. So is a field of `REFUSED` with another value than the ones that change nothing.
"""

from collections.abc import Mapping
from typing import Any

from gdpo_jax.errors import UserError

# tokenizer_config.json and special_tokens_map.json: read and followed. Names that end in `_token`
# are so too: templates know them.
FOLLOWED = frozenset(
    (  # noqa: SIM905
        "add_bos_token added_tokens_decoder additional_special_tokens bos_token chat_template "
        "eos_token extra_special_tokens model_specific_special_tokens pad_token "
        "split_special_tokens"
    ).split()
)
# Fields that change neither the ids of a text nor its characters, and why.
HARMLESS = {
    "add_eos_token": "prompts and completions get their ends from the trainer",
    "auto_map": "names code that is not run; tokenizer.json decides",
    "backend": "tokenizer.json is always read by the tokenizers library",
    "bos_token_id": "bos_token decides",
    "clean_up_tokenization_spaces": "text is what the tokens say; transformers tidies a copy",
    "eos_token_id": "eos_token decides",
    "errors": "bytes that are no UTF-8 become U+FFFD",
    "extra_ids": "of T5 vocabularies; tokenizer.json holds the tokens",
    "fast_tokenizer_files": "tokenizer.json is read",
    "from_slow": "how the file was made",
    "init_inputs": "how the file was made",
    "is_local": "where the file was",
    "legacy": "of the slow class; tokenizer.json decides",
    "local_files_only": "where the file was",
    "max_len": "max_positions of the model decides",
    "max_length": "texts are not cut",
    "model_input_names": "names of transformers' arrays",
    "model_max_length": "max_positions of the model decides",
    "name_or_path": "where the file was",
    "pad_to_multiple_of": "buckets decide",
    "pad_token_id": "pad_token decides",
    "pad_token_type_id": "no token types",
    "padding_side": "rows are padded by the trainer",
    "processor_class": "of images and sound",
    "response_schema": "how transformers takes an answer apart",
    "return_token_type_ids": "no token types",
    "revision": "where the file was",
    "sp_model_kwargs": "of the slow class; tokenizer.json decides",
    "spaces_between_special_tokens": "control tokens have no text",
    "special_tokens_map_file": "where a file was",
    "stride": "texts are not cut",
    "tokenizer_class": "tokenizer.json decides",
    "tokenizer_file": "where a file was",
    "transformers_version": "how the file was made",
    "truncation_side": "texts are not cut",
    "truncation_strategy": "texts are not cut",
    "trust_remote_code": "no code is run",
    "unk_id": "of the slow class; tokenizer.json decides",
    "use_default_system_prompt": "templates decide",
    "use_fast": "tokenizer.json is always read by the tokenizers library",
    "verbose": "messages of transformers",
    "vocab_file": "where a file was",
    "vocab_size": "tokenizer.json decides",
}
# Fields that rewrite the rules of tokenizer.json when transformers opens it.
REFUSED = ("do_lower_case", "fix_mistral_regex", "strip_accents")
# generation_config.json.
GENERATION_FOLLOWED = frozenset(("eos_token_id", "stop_strings"))
GENERATION_HARMLESS = {
    **dict.fromkeys(
        (  # noqa: SIM905
            "do_sample early_stopping epsilon_cutoff eta_cutoff length_penalty max_length "
            "max_new_tokens max_time min_p num_beam_groups num_beams num_return_sequences "
            "penalty_alpha repetition_penalty temperature top_h top_k top_p typical_p"
        ).split(),
        "SamplerConfig decides how completions are drawn",
    ),
    **dict.fromkeys(
        (  # noqa: SIM905
            "assistant_confidence_threshold assistant_early_exit assistant_lookbehind "
            "cache_config cache_implementation compile_config custom_generate disable_compile "
            "low_memory max_matching_ngram_size num_assistant_tokens "
            "num_assistant_tokens_schedule prefill_chunk_size prompt_lookup_num_tokens "
            "return_legacy_cache target_lookbehind use_cache use_model_defaults"
        ).split(),
        "how transformers computes the same tokens",
    ),
    **dict.fromkeys(
        [
            "output_attentions",
            "output_hidden_states",
            "output_logits",
            "output_scores",
            "remove_invalid_values",
            "renormalize_logits",
            "return_dict_in_generate",
        ],
        "what transformers returns",
    ),
    **dict.fromkeys(
        ["bos_token_id", "decoder_start_token_id", "pad_token_id"],
        "tokenizer_config.json decides",
    ),
    **dict.fromkeys(
        ["_from_model_config", "is_encoder_decoder", "transformers_version"],
        "how the file was made",
    ),
}


def check_tokenizer_fields(about: Mapping[str, Any], where: str) -> None:
    """Raises UserError for a field that may change ids or text and is not followed."""
    for name, value in about.items():
        if value is None or value is False or name in FOLLOWED or name in HARMLESS:
            continue
        if name.endswith("_token") and isinstance(value, (str, Mapping)):
            continue
        if name in ("add_prefix_space", "tokenize_chinese_chars"):  # compared, or a default
            continue
        if name in REFUSED:
            raise UserError(
                f"{where}: {name}={value!r} rewrites the rules of tokenizer.json, which is not "
                "supported; save the tokenizer with transformers, so that tokenizer.json holds them"
            )
        raise UserError(
            f"{where}: the field {name!r} is not known, and it may change token ids; take it out "
            "if it does not"
        )


def check_generation_fields(about: Mapping[str, Any], where: str) -> None:
    """Raises UserError for a field that makes transformers draw or forbid certain tokens."""
    for name, value in about.items():
        if name in GENERATION_FOLLOWED or name in GENERATION_HARMLESS:
            continue
        if value is None or value is False or value in (0, 1.0, [], {}):
            continue
        raise UserError(
            f"{where}: the field {name!r} changes which tokens are drawn and is not supported; "
            "take it out to sample without it"
        )


__all__ = ["check_generation_fields", "check_tokenizer_fields"]
