"""A policy from nothing: a tokenizer of its own texts, and random parameters."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from gdpo_jax.models import Model, open_model
from gdpo_jax.policies import DecoderConfig, Tokenizer, train_tokenizer

__all__ = ["new_model", "tokenizer_of"]


def tokenizer_of(
    examples: Sequence[Mapping[str, Any]], *, vocab_size: int, reserved: Sequence[str] = ()
) -> Tokenizer:
    """A tokenizer of the examples' prompts and completions.

    vocab_size: upper bound. reserved: words that are one token each. Raises UserError as
    `train_tokenizer`.
    """
    texts = [_text(row["prompt"]) for row in examples]
    texts += [row["completion"] for row in examples]
    return train_tokenizer(texts, vocab_size=vocab_size, special_tokens=list(reserved))


def new_model(
    decoder: DecoderConfig, tokenizer: Tokenizer, mesh: jax.sharding.Mesh, seed: int
) -> Model:
    """The decoder with random parameters, its vocabulary as large as the tokenizer's."""
    config = dataclasses.replace(decoder, vocab_size=tokenizer.vocab_size)
    key = jax.random.key(seed)
    return open_model(config, mesh, tokenizer=tokenizer, remat=decoder.remat, key=key)


def _text(prompt: Any) -> str:
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message["content"] for message in prompt)
