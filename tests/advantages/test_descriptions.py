"""Estimators that compute different things describe themselves differently, equal ones equally."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdpo_jax.advantages import (
    CONVENTIONS,
    ESTIMATORS,
    AdvantageTransform,
    Convention,
    batch_center,
    batch_normalize,
    chain,
    clip,
    combine,
    condition,
    describe,
    divide_by_correlation,
    drop_conflicts,
    drop_silent_groups,
    fill_missing,
    gdpo,
    group_center,
    group_normalize,
    lagrangian,
    leave_one_out,
    leave_one_out_normalize,
    set_resolution,
    stateless,
    subtract_penalty,
    weigh,
    weigh_by_group_deviation,
    weigh_by_saturation,
    weigh_by_variation,
)


def double(flow):
    return flow


def half(flow):
    return flow


class Ramp:
    """A schedule that is an object."""

    def __init__(self, slope):
        self.slope = slope

    def __call__(self, step):
        return {"a": self.slope * step, "b": 1.0}


def slope(step, *, by):
    return {"a": by * step, "b": 1.0}


NEEDED = {
    "papo": ("a", "b"),
    "sa_mrpo": ({"a": (0.0, 1.0), "b": (0.0, 2.0)},),
    "constrained_grpo": ({"b": 0.1},),
    "corpo": (0.5,),
}
WEIGHTS = {
    "numbers": lambda: (1.0, 0.5),
    "array": lambda: np.array([1.0, 0.25]),
    "names": lambda: {"a": 1.0, "b": 0.5},
    "optax": lambda: {"a": 1.0, "b": optax.linear_schedule(0.0, 0.3, 200)},
    "slower": lambda: {"a": 1.0, "b": optax.linear_schedule(0.0, 0.3, 201)},
    "joined": lambda: {
        "a": 1.0,
        "b": optax.join_schedules(
            [optax.constant_schedule(0.1), optax.cosine_decay_schedule(1, 9)], [4]
        ),
    },
    "later": lambda: {
        "a": 1.0,
        "b": optax.join_schedules(
            [optax.constant_schedule(0.1), optax.cosine_decay_schedule(1, 9)], [5]
        ),
    },
    "lambda": lambda: lambda step: 0.1 * step,
    "other lambda": lambda: lambda step: 0.2 * step,
    "object": lambda: Ramp(0.1),
    "other object": lambda: Ramp(0.2),
    "partial": lambda: functools.partial(slope, by=0.1),
    "other partial": lambda: functools.partial(slope, by=0.3),
    "jitted": lambda: jax.jit(lambda step: 0.4 * step),
}
OPTIONS = {
    "gdpo": [{"convention": name} for name in CONVENTIONS if name != "paper"]
    + [{"convention": Convention(group_eps=0.1)}, {"dead_groups": "leave_out"}],
    "grpo": [{"scale": "batch"}, {"scale": "none"}, {"eps": 1e-4}, {"missing": "zero"}],
    "dr_grpo": [{"missing": "zero"}],
    "rloo": [{"missing": "zero"}],
    "reinforce_pp": [{"baseline": "group"}, {"over": "tokens"}, {"missing": "zero"}],
    "papo": [{"at_least": 0.5}],
    "gd2po": [{"mode": "snr"}, {"tau": 0.3}, {"keep_ratio": False}, {"over": "tokens"}],
    "sa_mrpo": [{"gamma": 0.1}],
    "corr_grpo": [{"eps": 1e-3}],
    "constrained_grpo": [{"step_size": 0.2}],
    "corpo": [{"missing": "zero"}],
}
RESOLUTIONS = [{"resolution": x} for x in (0, 0.1, {"a": 0.1}, {"b": 0.1}, {"a": 0})]


def calls():
    """Thunks of every estimator with varied options; no two compute the same."""
    for name, make in ESTIMATORS.items():
        if name == "rank_grpo":  # it is grpo, and says so
            continue
        base = {"step_size": 0.1} if name == "constrained_grpo" else {}
        for options in ({}, *OPTIONS.get(name, ()), *RESOLUTIONS):
            yield functools.partial(make, *NEEDED.get(name, ()), **(base | options))
        for weights in WEIGHTS.values():
            yield lambda make=make, name=name, base=base, weights=weights: make(
                *NEEDED.get(name, ()), weights=weights(), **base
            )
    for stages in STAGES:
        yield from stages


STAGES = [
    [
        lambda: group_normalize(),
        lambda: group_normalize(eps=0.1),
        lambda: group_normalize(ddof=0),
        lambda: group_normalize(lone="raw"),
        lambda: group_normalize(resolution=0),
        lambda: leave_one_out_normalize(),
        lambda: leave_one_out_normalize(eps=0.1),
        lambda: leave_one_out(),
        lambda: group_center(),
        lambda: group_center(at_least=0.1),
        lambda: group_center(scale="batch"),
        lambda: batch_normalize(),
        lambda: batch_normalize(variance_eps=0.1),
        lambda: batch_normalize(ddof=0),
        lambda: batch_center(),
        lambda: combine(),
        lambda: combine(missing="zero"),
        lambda: fill_missing(),
        lambda: clip(1.0),
        lambda: clip(2.0),
        lambda: set_resolution(),
        lambda: set_resolution(0),
        lambda: weigh(),
        lambda: weigh_by_variation(),
        lambda: weigh_by_variation(eps=0.1),
        lambda: weigh_by_saturation({"a": (0, 1)}),
        lambda: weigh_by_saturation({"a": (0, 2)}),
        lambda: weigh_by_group_deviation(),
        lambda: divide_by_correlation(),
        lambda: divide_by_correlation(eps=0.1),
        lambda: drop_conflicts(),
        lambda: drop_conflicts(tau=0.1),
        lambda: drop_silent_groups(),
        lambda: drop_silent_groups("a"),
        lambda: subtract_penalty(0.1),
        lambda: subtract_penalty(0.2),
        lambda: condition("a", on="b", at_least=1.0),
        lambda: condition("a", on="b", at_least=2.0),
        lambda: condition("a", on="b", at_least=1.0, otherwise="mask"),
        lambda: lagrangian({"a": 0.1}, step_size=0.1),
        lambda: lagrangian({"a": 0.1}, step_size=0.1, initial=0.5),
        lambda: lagrangian({"a": 0.1}, step_size=0.1, highest=9.0),
        lambda: stateless(double),
        lambda: stateless(half),
    ],
    [
        lambda: chain(group_normalize(), combine()),
        lambda: chain(combine(), group_normalize()),
        lambda: chain(stateless(double), combine()),
        lambda: chain(stateless(half), combine()),
        lambda: chain(AdvantageTransform(init=lambda names: (), update=double), combine()),
    ],
]


def test_descriptions_differ_exactly_where_the_calls_do():
    first, second = (
        [json.dumps(make().description, sort_keys=True) for make in calls()] for _ in "12"
    )
    assert first == second
    for one, other in itertools.combinations(range(len(first)), 2):
        assert first[one] != first[other], first[one]


def test_a_transform_is_still_a_static_argument():
    transform = gdpo((1.0, 0.5))
    assert hash(transform) == hash(transform) and transform == transform
    assert AdvantageTransform(init=double, update=half).description is None
    assert describe(AdvantageTransform(init=double, update=half))["update"]["function"].endswith(
        "half"
    )


def test_weights_without_a_value_yet_are_described_by_shape():
    found = []

    @jax.jit
    def trace(weights):
        found.append(gdpo(weights).description)
        return weights

    trace(jnp.ones(2))
    assert found[0]["gdpo"]["weights"] == {"traced": [2.0]} or found[0]["gdpo"]["weights"] == {
        "traced": [2]
    }
