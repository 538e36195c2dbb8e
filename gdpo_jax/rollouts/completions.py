"""Sampled ids as text: what a reward function sees of one completion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int


@dataclass(frozen=True)
class Completion:
    """One sampled answer as a reward function sees it.

    `text` leaves out the stop token. `token_ids` are all sampled ids, the stop token included, and
    `spans` gives the characters of `text` that each id stands for; the stop token has an empty span
    at the end. `finished` is false when the sampler ran out of tokens before a stop token.
    """

    text: str
    token_ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    finished: bool


@runtime_checkable
class TokenDecoder(Protocol):
    """The part of a tokenizer that turns ids back into text."""

    def decode(self, ids: Sequence[int], /) -> str: ...

    def token_spans(self, ids: Sequence[int], /) -> Sequence[tuple[int, int]]: ...


def decode_completions(
    tokenizer: TokenDecoder,
    token_ids: Int[np.ndarray, "N C"],
    mask: Bool[np.ndarray, "N C"],
    finished: Bool[np.ndarray, "N"],
) -> list[Completion]:
    """Decode sampled ids; `mask` is true up to and including the stop token, if there is one."""
    completions = []
    for row, length, done in zip(token_ids, mask.sum(axis=1), finished):
        ids = row[:length].tolist()
        written = ids[:-1] if done and ids else ids
        text = tokenizer.decode(written)
        spans = [(int(start), int(end)) for start, end in tokenizer.token_spans(written)]
        spans += [(len(text), len(text))] * (len(ids) - len(written))
        completions.append(Completion(text, tuple(ids), tuple(spans), bool(done)))
    return completions


__all__ = ["Completion", "TokenDecoder", "decode_completions"]
