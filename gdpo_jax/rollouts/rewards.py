"""Text to reward values: what a reward function is, and how its answers become a `RewardBatch`.

A reward function sees decoded completions and the batch's records, on the process that holds them.
It answers with one number or None per sample, or with one number or None per rank of each sample.
None and NaN mean "no opinion" and become invalid entries; they never become zero.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from gdpo_jax.advantages import RewardBatch
from gdpo_jax.errors import UserError

Record = Mapping[str, Any]
SampleReward = float | None
RankRewards = Sequence[SampleReward]

_SHOWN_CHARACTERS = 400
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Completion:
    """One sampled answer as a reward function sees it.

    `text` leaves out the stop token. `token_ids` are all sampled ids, the stop token included, and
    `spans` gives the characters of `text` that each id stands for; the stop token has an empty span
    at the end. `finished` is false when the sampler ran out of room before a stop token.
    """

    text: str
    token_ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    finished: bool


@runtime_checkable
class RewardFunction(Protocol):
    """Scores completions; `name` is what metrics, weights and errors call it."""

    @property
    def name(self) -> str: ...

    def __call__(
        self, completions: Sequence[Completion], records: Sequence[Record]
    ) -> Sequence[SampleReward] | Sequence[RankRewards]: ...


@runtime_checkable
class TokenDecoder(Protocol):
    """The part of a tokenizer that turns ids back into text."""

    def decode(self, ids: Sequence[int], /) -> str: ...

    def token_spans(self, ids: Sequence[int], /) -> Sequence[tuple[int, int]]: ...


class RewardError(UserError):
    """A reward function failed or gave no reward; names the function, the sample and its text."""


def named_reward(function: Any) -> RewardFunction:
    """The function itself if it has a `name`, a plain function under its `__name__`."""
    if isinstance(getattr(function, "name", None), str):
        return function
    name = getattr(function, "__name__", "<lambda>")
    if name == "<lambda>":
        raise UserError(f"reward {function!r} has no name; use a named function or a `name`")
    function.name = name
    return function


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


def score(
    reward_functions: Sequence[RewardFunction],
    completions: Sequence[Completion],
    records: Sequence[Record],
    *,
    num_prompts: int,
    num_samples: int,
    num_ranks: int | None = None,
) -> RewardBatch:
    """Call every reward function on this process's samples and stack the answers.

    `completions` and `records` are flat, sample `b * num_samples + g` belonging to prompt `b`;
    records are repeated per sample. Values come back as NumPy, `[B, G, K]`, or `[B, G, K, R]` when
    `num_ranks` is given; there, a function that answers per sample counts at every rank. Invalid
    entries hold 0 and are marked in `valid`.

    Raises:
        RewardError: a function raises, answers with a wrong length, with an infinity or with
            something that is no number.
    """
    names = tuple(function.name for function in reward_functions)
    if not names:
        raise RewardError("no reward function is given; at least one is needed")
    if len(set(names)) != len(names):
        raise RewardError(f"reward names must differ, got {list(names)}")
    expected = num_prompts * num_samples
    if len(completions) != expected or len(records) != expected:
        raise RewardError(
            f"{len(completions)} completions and {len(records)} records do not match "
            f"{num_prompts} prompts x {num_samples} samples = {expected}"
        )
    columns = [
        _column(function, _call(function, completions, records), completions, num_ranks)
        for function in reward_functions
    ]
    ranks = () if num_ranks is None else (num_ranks,)
    values = np.stack(columns, axis=1).reshape(num_prompts, num_samples, len(names), *ranks)
    valid = ~np.isnan(values)
    return RewardBatch(values=np.where(valid, values, np.float32(0)), valid=valid, names=names)


def _call(
    function: RewardFunction, completions: Sequence[Completion], records: Sequence[Record]
) -> Sequence[Any]:
    try:
        answers = function(completions, records)
    except Exception as error:
        index = _first_failing_sample(function, completions, records)
        if index is None:
            where = f"on the batch of {len(completions)} samples, though on none of them alone"
        else:
            where = f"on {_describe(index, completions)}"
        raise RewardError(
            f"reward {function.name!r} raised {type(error).__name__}: {error}\n{where}"
        ) from error
    if not hasattr(answers, "__len__") or len(answers) != len(completions):
        size = f"{len(answers)} values" if hasattr(answers, "__len__") else repr(type(answers))
        raise RewardError(
            f"reward {function.name!r} returned {size} for {len(completions)} completions; "
            "it must return one entry per completion"
        )
    return answers


def _first_failing_sample(
    function: RewardFunction, completions: Sequence[Completion], records: Sequence[Record]
) -> int | None:
    for index, (completion, record) in enumerate(zip(completions, records)):
        try:
            function([completion], [record])
        except Exception:
            return index
    return None


def _column(
    function: RewardFunction,
    answers: Sequence[Any],
    completions: Sequence[Completion],
    num_ranks: int | None,
) -> np.ndarray:
    """One function's answers as float32 `[N]` or `[N, R]`, NaN where it has no opinion."""
    shape = (len(answers),) if num_ranks is None else (len(answers), num_ranks)
    column = np.full(shape, np.nan, np.float32)
    for index, answer in enumerate(answers):
        if np.ndim(answer) == 0:
            column[index] = _number(function, answer, index, completions)
            continue
        if num_ranks is None:
            raise RewardError(
                f"reward {function.name!r} returned {len(answer)} values for "
                f"{_describe(index, completions)}\nthis run scores whole samples; return one "
                "number or None per sample"
            )
        if len(answer) != num_ranks:
            raise RewardError(
                f"reward {function.name!r} returned {len(answer)} ranks for "
                f"{_describe(index, completions)}\nthis run has {num_ranks} ranks; return one "
                "number or None for each, or a single one for the sample"
            )
        column[index] = [_number(function, value, index, completions) for value in answer]
    return column


def _number(
    function: RewardFunction, answer: Any, index: int, completions: Sequence[Completion]
) -> float:
    if answer is None:
        return math.nan
    try:
        value = float(answer)
    except (TypeError, ValueError, OverflowError):
        value = math.inf
    if abs(value) > _LARGEST:
        raise RewardError(
            f"reward {function.name!r} returned {answer!r} for {_describe(index, completions)}\n"
            "a reward is a finite number; None or NaN mark a sample without one"
        )
    return value


def _describe(index: int, completions: Sequence[Completion]) -> str:
    text = completions[index].text
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"
    return f"sample {index} of {len(completions)}, whose text is {text!r}"
