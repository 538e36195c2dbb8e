"""Estimators by name, and a user's own one by `module:function` or `file.py:function`."""

import dataclasses
import importlib
import importlib.util
import inspect
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import jax.numpy as jnp
from jaxtyping import Array, Float

from experiments.reward_design.learning import MakeEstimator
from experiments.reward_design.tasks import Task
from gdpo_jax.advantages import (
    ESTIMATORS,
    AdvantageTransform,
    Flow,
    chain,
    constrained_grpo,
    corpo,
    papo,
    sa_mrpo,
    stateless,
)
from gdpo_jax.errors import UserError

Weights = Float[Array, "K"]


@dataclasses.dataclass(frozen=True)
class Estimator:
    """What the laboratory calls an estimator: how it is shown, and how a task's weights make it.

    `needs_task`: it looks at the scales of the task's rewards too.
    """

    label: str
    make: MakeEstimator
    needs_task: bool = False


def estimator_named(name: str) -> Estimator:
    """The estimator of that name, or a user's own.

    A user's own is a function `weights -> AdvantageTransform` like those of
    `gdpo_jax.advantages.ESTIMATORS`, or an `AdvantageTransform` itself, which then decides about
    weights alone. The weights are a traced array `[K]`.
    Raises UserError with the legal names, or with what is wrong with the user's own.
    """
    if ":" in name:
        return _own(name)
    if name not in ESTIMATORS:
        raise UserError(
            f"unknown estimator {name!r}; legal: {', '.join(ESTIMATORS)}, "
            "or your own as module:function or file.py:function"
        )
    if name in _FROM_TASK:
        return Estimator(name, _FROM_TASK[name], needs_task=True)
    return Estimator(name, lambda task, weights: ESTIMATORS[name](weights))


def estimators_named(names: Sequence[str]) -> tuple[Estimator, ...]:
    """All of them, with labels that differ.

    Raises UserError for none, a repeated or an unknown name.
    """
    if not names or len(set(names)) != len(names):
        raise UserError(f"estimators {list(names)}: give at least one, each once")
    found = [estimator_named(name) for name in names]
    labels = [one.label for one in found]
    return tuple(
        one if labels.count(one.label) == 1 else dataclasses.replace(one, label=name)
        for one, name in zip(found, names, strict=True)
    )


def as_cost(name: str) -> AdvantageTransform:
    """Turns reward `name` into a cost, its negative, for estimators that hold costs down."""

    def update(flow: Flow) -> Flow:
        signs = jnp.array([-1.0 if other == name else 1.0 for other in flow.names], flow.raw.dtype)
        signs = signs[None, None, :]
        return dataclasses.replace(flow, values=flow.values * signs, raw=flow.raw * signs)

    return stateless(update)


def _papo(task: Task, weights: Weights) -> AdvantageTransform:
    """The first reward is the outcome, the second the process; half the scale is correct."""
    if len(task.rewards) != 2:
        raise UserError(f"papo wants two rewards, outcome and process; got {list(task.names)}")
    outcome, process = task.rewards
    return papo(outcome.name, process.name, weights, at_least=outcome.scale / 2)


def _sa_mrpo(task: Task, weights: Weights) -> AdvantageTransform:
    """The bounds are what a completion can earn without noise."""
    return sa_mrpo({reward.name: (0.0, reward.scale) for reward in task.rewards}, weights)


def _constrained_grpo(task: Task, weights: Weights) -> AdvantageTransform:
    """The last reward is a constraint: its mean has to reach half its scale. Its weight is learned
    and what `weights` says of it is not used.
    """
    last = task.rewards[-1]
    learned = constrained_grpo(
        {last.name: -last.scale / 2}, step_size=0.1 / last.scale, weights=weights[:-1]
    )
    return chain(as_cost(last.name), learned)


def _corpo(task: Task, weights: Weights) -> AdvantageTransform:
    """The threshold is half of what the best completion could earn."""
    return corpo(jnp.sum(weights * jnp.asarray(task.scales)) / 2, weights)


# Estimators that want to know more of the task than the weights of its rewards.
_FROM_TASK: dict[str, MakeEstimator] = {
    "papo": _papo,
    "sa_mrpo": _sa_mrpo,
    "constrained_grpo": _constrained_grpo,
    "corpo": _corpo,
}


def _own(name: str) -> Estimator:
    source, _, attribute = name.rpartition(":")
    if not (source and attribute):
        raise UserError(f"estimator {name!r}: give module:function or file.py:function")
    module = _module(source, name)
    if not hasattr(module, attribute):
        public = [one for one in vars(module) if not one.startswith("_")]
        raise UserError(f"estimator {name!r}: {source} has no {attribute!r}; it has {public}")
    found = getattr(module, attribute)
    if not (isinstance(found, AdvantageTransform) or _takes_one(found)):
        raise UserError(
            f"estimator {name!r} is a {type(found).__name__}; it must be a function of one "
            "argument, weights -> AdvantageTransform, or an AdvantageTransform"
        )

    def make(task: Task, weights: Weights) -> AdvantageTransform:
        made = found if isinstance(found, AdvantageTransform) else found(weights)
        if not isinstance(made, AdvantageTransform):
            raise UserError(
                f"estimator {name!r} returned a {type(made).__name__}; it must return an "
                "AdvantageTransform, such as chain(...) of gdpo_jax.advantages"
            )
        return made

    return Estimator(attribute, make)


def _takes_one(found: object) -> bool:
    try:
        inspect.signature(found).bind(None)
    except TypeError:
        return False
    return True


def _module(source: str, name: str) -> ModuleType:
    if not source.endswith(".py"):
        try:
            return importlib.import_module(source)
        except ModuleNotFoundError as error:
            raise UserError(f"estimator {name!r}: {error}") from None
    path = Path(source)
    if not path.is_file():
        raise UserError(f"estimator {name!r}: there is no file {source}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


__all__ = ["Estimator", "as_cost", "estimator_named", "estimators_named"]
