"""What a run starts from: its own estimator, optimizer and keys; another one is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from toy import GDPO, once, rows_of

from gdpo_jax.advantages import (
    AdvantageTransform,
    chain,
    gdpo,
)
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import (
    ObjectiveConfig,
)
from gdpo_jax.training import (
    OptimizerConfig,
    make_optimizer,
)
from gdpo_jax.training.optimizers import describe_optimizer


@pytest.fixture(scope="module")
def mesh():
    return toy.mesh_of(1)


def fresh_state(mesh):
    return toy.fresh_state(mesh, toy.OPTIMIZER)


def test_a_run_starts_from_its_own_estimators_state(mesh, tmp_path):
    first = gdpo({"cs": 1.0, "brevity": 1.0})
    state = once(tmp_path / "one", mesh, transform=first)
    state = once(tmp_path / "two", mesh, transform=gdpo({"cs": 1.0, "brevity": 0.0}), state=state)
    (row,) = rows_of(tmp_path / "two")
    assert row["weight/brevity"] == 0.0
    # Another structure of state is no obstacle either.
    other = chain(GDPO, AdvantageTransform(lambda names: jnp.zeros(3), lambda f, s: (f, s + 1)))
    state = once(tmp_path / "three", mesh, transform=other, state=state)
    np.testing.assert_array_equal(jax.tree.leaves(state.advantage_state)[-1], np.ones(3))


def test_a_second_run_on_a_state_samples_anew(mesh, tmp_path):
    def texts(name, state):
        seen = []
        once(tmp_path / name, mesh, state=state, on_step=seen.append)
        return [completion.text for completion in seen[0].completions]

    first = texts("one", fresh_state(mesh))
    assert texts("again", fresh_state(mesh)) == first
    # The same parameters and key, one update later.
    later = fresh_state(mesh)
    assert texts("later", later.replace(step=later.step + 1)) != first


def test_a_state_that_was_given_away_is_refused_and_a_reference_is_copied(mesh, tmp_path):
    state = fresh_state(mesh)
    kl = ObjectiveConfig(kl="k3", kl_coef=0.1)
    once(tmp_path / "a", mesh, state=state, ref_params=state.params, objective=kl)
    with pytest.raises(UserError, match="arrays of the state were donated to an earlier run"):
        once(tmp_path / "b", mesh, state=state)
    with pytest.raises(UserError, match="arrays of ref_params were donated"):
        once(tmp_path / "c", mesh, ref_params=state.params, objective=kl)


def test_another_optimizer_or_estimator_is_refused_by_itself(mesh, tmp_path):
    def go_on(steps=2, **changes):
        config = toy.config(steps=steps, checkpoint_every=1)
        return toy.run(tmp_path, mesh, config=config, **{"transform": GDPO} | changes)

    go_on(steps=1, transform=GDPO._replace(description={"name": "gdpo"}))
    # With the objects that `toy.run` makes of `toy.OPTIMIZER` and without an identity.
    louder = dataclasses.replace(toy.OPTIMIZER, learning_rate=1.0)
    with pytest.raises(UserError, match=r"optimizer\.learning_rate: 0\.003 \(stored\), 1\.0 \(now"):
        go_on(optimizer=louder, transform=GDPO._replace(description={"name": "gdpo"}))
    with pytest.raises(UserError, match=r"estimator\.name: 'gdpo' \(stored\), 'mo_grpo' \(now"):
        go_on(transform=GDPO._replace(description={"name": "mo_grpo"}))
    with pytest.raises(UserError, match=r"reshape_rewards: None \(stored\), .*same"):

        def same(rewards, rollout):
            return rewards

        go_on(transform=GDPO._replace(description={"name": "gdpo"}), reshape_rewards=same)
    # What the caller says cannot hide what the loop knows.
    with pytest.raises(UserError, match=r"optimizer\.learning_rate"):
        go_on(
            optimizer=louder,
            identity={"optimizer": dataclasses.asdict(toy.OPTIMIZER)},
            transform=GDPO._replace(description={"name": "gdpo"}),
        )


def test_optimizers_are_told_apart_by_what_they_do():
    params = jax.eval_shape(toy.POLICY.init, jax.random.key(0))
    of = [
        describe_optimizer(optimizer, params)
        for optimizer in (
            optax.adam(1e-3),
            optax.adam(1e-3),
            optax.adam(2e-3),
            optax.adam(1e-3, b2=0.99),
            optax.sgd(1e-3),
            optax.adam(optax.cosine_decay_schedule(1e-3, 500)),
            optax.adam(optax.cosine_decay_schedule(1e-3, 600)),
        )
    ]
    assert of[0] == of[1]
    assert all(of[i] != of[j] for i in range(2, 7) for j in range(1, i))
    config = OptimizerConfig(learning_rate=1e-4)
    assert describe_optimizer(make_optimizer(config), params) == dataclasses.asdict(config)
    masked = optax.masked(optax.sgd(0.1), {"no": "such tree"})
    assert describe_optimizer(masked, params)["update"].startswith("optax")
