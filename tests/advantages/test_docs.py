"""The code of docs/estimators.md runs as it stands."""

import re
from pathlib import Path

import jax
import numpy as np
import optax

from gdpo_jax import advantages
from gdpo_jax.advantages import ESTIMATORS, RewardBatch, compute_advantages, reward_batch

DOCS = Path(__file__).parents[2] / "docs"


def blocks():
    return re.findall(r"```python\n(.*?)```", (DOCS / "estimators.md").read_text(), re.DOTALL)


def test_the_examples_run():
    values = np.random.default_rng(0).normal(size=(2, 4, 2)).astype(np.float32)
    first, second = blocks()
    space = {"values": values}
    exec(first, space)
    assert isinstance(space["rewards"], RewardBatch)
    assert space["advantages"].values.shape == (2, 4)
    np.testing.assert_allclose(space["metrics"]["weight/relevant"], 0.5)
    exec(second, space)
    mine, rewards = space["mine"], reward_batch(values, ("safe", "relevant"))
    compute = jax.jit(lambda r: compute_advantages(mine, r, mine.init(r.names))[0].values)
    assert np.isfinite(compute(rewards)).all()


def test_every_estimator_is_in_the_table():
    table = (DOCS / "estimators.md").read_text()
    assert [name for name in ESTIMATORS if f"{name}(" not in table] == []


NAMES = ("safe", "relevant", "correct", "length", "outcome", "process", "unsafe")


def calls():
    """Every call of the table, and those of the lists below it that make a transform."""
    text = (DOCS / "estimators.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count(" | ") >= 5]
    table = [re.findall(r"`([^`]+)`", row.rsplit(" | ", 1)[1])[0] for row in rows if "`" in row]
    listed = re.findall(r"`((?:gdpo|chain)\([^`]+\))`", text.split("## Weights, schedules")[1])
    return table, [call for call in listed if "..." not in call]


def test_every_call_of_the_page_is_a_transform():
    table, listed = calls()
    assert len(table) == 18 and len(listed) == 4
    space = vars(advantages) | {"w": None, "b": None, "optax": optax}
    rewards = reward_batch(np.random.default_rng(0).normal(size=(2, 4, 7)), NAMES)

    def run(transform, names):
        columns = [NAMES.index(name) for name in names]
        batch = RewardBatch(
            values=rewards.values[:, :, columns], valid=rewards.valid[:, :, columns], names=names
        )
        state = transform.init(names)
        return jax.eval_shape(
            lambda b, s, p: compute_advantages(transform, b, s, penalty=p)[0].values,
            *(batch, state, np.zeros((2, 4), np.float32)),
        )

    for call in table + listed:
        named = [name for name in NAMES if f'"{name}"' in call]
        others = [] if ": " in call and "constrained" not in call else ["correct", "length"]
        names = tuple(dict.fromkeys(named + others))
        assert run(eval(call, space), names).shape == (2, 4), call
