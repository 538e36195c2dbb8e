"""The code of docs/estimators.md runs as it stands."""

import re
from pathlib import Path

import jax
import numpy as np

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


def test_every_metric_is_explained():
    explained = (DOCS / "diagnostics.md").read_text()
    source = Path(compute_advantages.__code__.co_filename).parent
    families = "advantage|reward|weight|constraint|loss|kl|ratio|clip_ratio|rollout"
    found = set()
    for package in (source, source.parent / "objectives"):
        for module in package.glob("*.py"):
            found |= set(re.findall(rf'f?"((?:{families})/[\w{{}}/]+)"', module.read_text()))
    found.discard("kl/{name}")
    found |= {"kl/k1", "kl/k3"}
    assert len(found) > 30
    for name in found:
        assert f"`{name}`" in explained or f"`{name.split('/')[-1]}`" in explained, name
