"""The study that counts: how many different advantage groups an estimator can tell apart."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from experiments.common.report.charts import Series, Style
from experiments.common.scores.claims import Verdict
from experiments.reward_design.advantage_groups import distinct_advantage_groups
from experiments.reward_design.estimators import Estimator
from experiments.reward_design.results import Findings, LineFigure, Table
from experiments.reward_design.settings import CountingStudy
from experiments.reward_design.tasks import Reward, Task
from gdpo_jax.advantages import (
    AdvantageTransform,
    RewardBatch,
    compute_advantages,
    mo_grpo,
)

# A batch normalisation would mix the groups; GDPO is counted before it (eq. 4-5), which is MO-GRPO.
BEFORE_THE_BATCH = {"gdpo": mo_grpo()}
TITLES = {"gdpo": "gdpo before eq. 6", "dr_grpo": "dr_grpo (grpo without sd)"}


def count_groups(study: CountingStudy, estimators: Sequence[Estimator]) -> Findings:
    """Counts for every estimator that treats each group alone; the others are named."""
    counted = {one.label: alone for one in estimators if (alone := _per_group(one)) is not None}
    by_group = {
        label: {
            size: distinct_advantage_groups(transform, group_size=size, num_rewards=2)
            for size in study.group_sizes
        }
        for label, transform in counted.items()
    }
    by_rewards = {
        label: {
            count: distinct_advantage_groups(
                transform, group_size=study.group_size, num_rewards=count
            )
            for count in study.reward_counts
        }
        for label, transform in counted.items()
    }
    left_out = [one.label for one in estimators if one.label not in counted]
    note = (
        f"; not counted, for they look beyond one group: {', '.join(left_out)}" if left_out else ""
    )
    return Findings(
        name=study.name,
        title=study.title,
        seeds=0,
        steps=0,
        tables=(
            _table(f"distinct advantage groups by group size, two rewards{note}", by_group, "G"),
            _table(
                f"distinct advantage groups by rewards, {study.group_size} samples", by_rewards, "K"
            ),
        ),
        figures=(
            _figure("two rewards", by_group, "samples in a group"),
            _figure(f"{study.group_size} samples", by_rewards, "rewards"),
        ),
        claims=(
            _claim("counts by group size are those expected", by_group, study.expected_by_group),
            _claim("counts by rewards are those expected", by_rewards, study.expected_by_rewards),
        ),
    )


def _per_group(estimator: Estimator) -> AdvantageTransform | None:
    """The estimator as it treats one group; None if it looks at other groups or at the task."""
    if estimator.label in BEFORE_THE_BATCH:
        return BEFORE_THE_BATCH[estimator.label]
    if estimator.needs_task:
        return None
    task = Task(rewards=(Reward(name="r0"), Reward(name="r1")))
    transform = estimator.make(task, jnp.ones(2, jnp.float32))
    values = np.random.default_rng(0).integers(0, 2, (4, 4, 2)).astype(np.float32)

    # Compiled: one by one, the operations of an estimator take seconds.
    @jax.jit
    def advantages(groups: Array) -> Array:
        rewards = RewardBatch(values=groups, valid=jnp.ones(groups.shape, bool), names=task.names)
        state = transform.init(task.names)
        lengths = jnp.ones(groups.shape[:2], jnp.float32)
        return compute_advantages(transform, rewards, state, lengths=lengths)[0].values

    apart = np.concatenate([advantages(values[i : i + 1]) for i in range(len(values))])
    if not np.allclose(advantages(values), apart, atol=1e-6):
        return None
    # Counting pads to more reward columns than two: the weights of one stand for any number.
    return _unweighted(estimator, task)


def _unweighted(estimator: Estimator, task: Task) -> AdvantageTransform:
    def make(names: tuple[str, ...]) -> AdvantageTransform:
        padded = dataclasses.replace(task, rewards=tuple(Reward(name=name) for name in names))
        return estimator.make(padded, jnp.ones(len(names), jnp.float32))

    return AdvantageTransform(
        init=lambda names: make(names).init(names),
        update=lambda flow, state: make(flow.names).update(flow, state),
    )


def _table(title: str, counts: Mapping[str, Mapping[int, int]], symbol: str) -> Table:
    sizes = list(next(iter(counts.values()))) if counts else []
    return Table(
        title=title,
        columns=("estimator", *(f"{symbol}={size}" for size in sizes)),
        rows=tuple((TITLES.get(name, name), *row.values()) for name, row in counts.items()),
    )


def _figure(title: str, counts: Mapping[str, Mapping[int, int]], x_label: str) -> LineFigure:
    series = tuple(
        Series(
            key=name,
            label=TITLES.get(name, name),
            style=Style(i),
            runs=[[(float(size), float(count)) for size, count in row.items()]],
        )
        for i, (name, row) in enumerate(counts.items())
    )
    return LineFigure(f"distinct advantage groups, {title}", series, x_label)


def _claim(
    text: str,
    counts: Mapping[str, Mapping[int, int]],
    expected: Mapping[str, Mapping[int, int]],
) -> Verdict:
    pairs = [
        (name, size, count, expected[name][size])
        for name, row in counts.items()
        for size, count in row.items()
        if size in expected.get(name, {})
    ]
    if not pairs:
        return Verdict(text, None, "no count has an expectation")
    wrong = [f"{n} at {s}: {found}, expected {right}" for n, s, found, right in pairs
             if found != right]  # fmt: skip
    return Verdict(text, not wrong, "; ".join(wrong) or f"all {len(pairs)} counts agree")


__all__ = ["count_groups"]
