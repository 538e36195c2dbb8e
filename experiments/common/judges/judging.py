"""A judge with what it is, as evaluations take one: rules, or a model whose answers are kept."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.common.chats.cache import Store
from experiments.common.chats.model import Answer, OnFailure
from experiments.common.judges.verdict import Verdict

__all__ = ["Judging", "OnAnswers"]

OnAnswers = Callable[[Sequence[Answer]], None]


@dataclasses.dataclass(frozen=True)
class Judging:
    """A judge with what it is.

    identity: JSON values that distinguish its verdicts from another judge's. judge: gives verdicts
    of cases; a store keeps what a model has answered, `OnAnswers` gets those answers, and
    `OnFailure` what the model did not answer.
    """

    identity: Mapping[str, Any]
    judge: Callable[[Sequence[Any], Store, OnAnswers, OnFailure], list[Verdict]]
