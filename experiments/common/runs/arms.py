"""Arms: how parameters come about (a stage), and what happens around the model when it answers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from experiments.common.runs.stages import Stage
from gdpo_jax.errors import UserError
from gdpo_jax.models import Model
from gdpo_jax.prompts import Prompt
from gdpo_jax.training.config import json_tree

__all__ = [
    "Answering",
    "Arm",
    "Guided",
    "ModelReply",
    "Plain",
    "Reply",
    "arm_named",
    "check_arms",
    "way_to",
]

Reply = Callable[[Sequence[Prompt]], list[str]]


@dataclasses.dataclass(frozen=True)
class ModelReply:
    """What ways to answer are given as `reply`: the answers of a model, and the model itself.

    encode: the token ids of a record's prompt, as the model takes it. answers: of any model with
    the same sampler.
    """

    model: Model
    encode: Callable[[Prompt], list[int]]
    answers: Callable[[Model, Sequence[Prompt]], list[str]]

    def __call__(self, prompts: Sequence[Prompt]) -> list[str]:
        return self.answers(self.model, prompts)

    def of(self, model: Model) -> "ModelReply":
        """The same of another model."""
        return dataclasses.replace(self, model=model)


class Answering(Protocol):
    """A way to answer."""

    def answer(self, reply: Reply, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """One text a record, in order. `reply`: the model's own answers to prompts."""


@dataclasses.dataclass(frozen=True)
class Plain:
    """The model answers the record's prompt."""

    def answer(self, reply: Reply, records: Sequence[Mapping[str, Any]]) -> list[str]:
        return reply([record["prompt"] for record in records])


@dataclasses.dataclass(frozen=True)
class Guided:
    """The model answers the record's prompt behind a guiding one."""

    guidance: str

    def answer(self, reply: Reply, records: Sequence[Mapping[str, Any]]) -> list[str]:
        return reply([self._guided(record["prompt"]) for record in records])

    def _guided(self, prompt: Prompt) -> Prompt:
        if isinstance(prompt, str):
            return f"{self.guidance}\n{prompt}"
        return [{"role": "system", "content": self.guidance}, *prompt]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One column of a comparison, or a step on the way to others."""

    name: str  # folder and option
    title: str  # in tables
    stage: Stage
    answer: Answering = Plain()
    start: str | None = None  # the arm whose parameters it starts from; None: the preset's start
    base: bool = False  # makes a new policy of use: no arm of tables, left out where one is given

    def describe(self) -> dict[str, Any]:
        """What of the arm a continuation of its run must share, JSON-ready."""
        kinds = {"stage": type(self.stage).__name__, "answer": type(self.answer).__name__}
        described = json_tree(dataclasses.asdict(self))
        return described | {"kinds": kinds}


def arm_named(arms: Sequence[Arm], name: str) -> Arm:
    """The arm of that name. Raises UserError with the legal names."""
    for arm in arms:
        if arm.name == name:
            return arm
    legal = ", ".join(arm.name for arm in arms if not arm.base)
    raise UserError(f"unknown arm {name!r}; legal: {legal}")


def check_arms(arms: Sequence[Arm]) -> None:
    """Raises UserError for two arms of one name, and a start that does not stand before its arm."""
    before: list[Arm] = []
    for arm in arms:
        if any(other.name == arm.name for other in before):
            raise UserError(f"two arms are called {arm.name!r}")
        if arm.start is not None and all(other.name != arm.start for other in before):
            raise UserError(
                f"arm {arm.name!r} starts from {arm.start!r}, which is no arm before it"
            )
        before.append(arm)


def way_to(arms: Sequence[Arm], arm: Arm, *, published: bool) -> list[Arm]:
    """The arms whose parameters one stands on, itself the last.

    published: the preset starts from a published model, which base stages leave as it is.
    """
    way = [arm]
    while way[0].start is not None:
        before = arm_named(arms, way[0].start)
        if published and before.base:
            break
        way.insert(0, before)
    return way
