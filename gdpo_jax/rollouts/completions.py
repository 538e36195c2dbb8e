"""Sampled ids as text: what a reward function sees of one completion."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int


@dataclass(frozen=True)
class Completion:
    """One sampled answer as a reward function sees it.

    `text` leaves out the stop token. `token_ids` are all sampled ids, the stop token included, and
    `spans` gives the characters of `text` that each id stands for; the stop token has an empty span
    at the end; they are looked for when one of them is first read. `finished` is false when the
    sampler ran out of tokens before a stop token.
    """

    text: str
    token_ids: tuple[int, ...]
    spans: Sequence[tuple[int, int]]
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
        spans = _Spans(tokenizer, written, len(text), len(ids) - len(written))
        completions.append(Completion(text, tuple(ids), spans, bool(done)))
    return completions


class _Spans(Sequence):
    """The spans of one completion, computed at the first look: most rewards never ask for them.

    written: the ids without the stop token. end: of the text. stops: empty spans at its end.
    Equal to a tuple of the same spans, and pickled as one.
    """

    def __init__(self, tokenizer: TokenDecoder, written: Sequence[int], end: int, stops: int):
        self._tokenizer, self._written = tokenizer, written
        self._after = ((end, end),) * stops

    @functools.cached_property
    def _all(self) -> tuple[tuple[int, int], ...]:
        spans = self._tokenizer.token_spans(self._written)
        return (*((int(start), int(end)) for start, end in spans), *self._after)

    def __getitem__(self, index: Any) -> Any:
        return self._all[index]

    def __len__(self) -> int:
        return len(self._written) + len(self._after)

    def __eq__(self, other: object) -> bool:
        return self._all == (other._all if isinstance(other, _Spans) else other)

    def __hash__(self) -> int:
        return hash(self._all)

    def __repr__(self) -> str:
        return repr(self._all)

    def __reduce__(self) -> tuple:
        return tuple, (self._all,)


__all__ = ["Completion", "TokenDecoder", "decode_completions"]
