"""What a run takes besides its records: functions on rewards and updates, an optimizer, a state."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from toy import GDPO, assert_same, once, rows_of

from gdpo_jax.advantages import (
    append_reward,
    chain,
    combine,
    drop_silent_groups,
    gdpo,
    grpo,
    mask_samples,
    overlong_penalty,
    reinforce_pp,
    subtract_penalty,
    weigh,
)
from gdpo_jax.data import record_batches
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import (
    ObjectiveConfig,
    covariance_tokens,
    mask_unfinished,
    policy_objective,
    sequence_kl,
    top_entropy_tokens,
)
from gdpo_jax.training import (
    PolicyOptimizationConfig,
    SFTConfig,
    create_state,
)
from gdpo_jax.training.advantage_step import learning_tokens
from gdpo_jax.training.checks import check_state


@pytest.fixture(scope="module")
def mesh():
    return toy.mesh_of(1)


def fresh_state(mesh):
    return create_state(toy.POLICY, toy.OPTIMIZER, key=jax.random.key(0), mesh=mesh)


def test_rewards_are_reshaped_with_the_rollout_in_sight(mesh, tmp_path):
    def reshape(rewards, rollout):
        lengths = rollout.mask.sum(-1)
        late = overlong_penalty(lengths, max_length=6, buffer=3)
        return mask_samples(append_reward(rewards, "late", late), rollout.finished)

    once(
        tmp_path, mesh, reshape_rewards=reshape, transform=gdpo({"cs": 1, "brevity": 1, "late": 2})
    )
    (row,) = rows_of(tmp_path)
    assert row["weight/late"] == 2 and row["reward/late/mean"] <= 0
    # Of unfinished samples neither advantage nor loss is left.
    finished = 1 - row["completions/truncated_fraction"]
    assert 0 < finished < 1
    assert row["advantage/valid_fraction"] == pytest.approx(finished)


def test_updates_are_reshaped_before_they_are_cut(mesh, tmp_path):
    def tokens_of(workdir, **options):
        once(workdir, mesh, **options)
        (row,) = rows_of(workdir)
        return row["update/filled_fraction"] * row["update/computed_tokens"]

    config = {"mini_batches": 2, "token_entropy": True}
    seen = {}

    def keep_uncertain(batch):
        seen["fields"] = (batch.entropy is not None, batch.finished is not None)
        # What is added to the mask stays out.
        more = jnp.ones_like(batch.mask)
        chosen = top_entropy_tokens(batch.entropy.reshape(32, -1), batch.mask.reshape(32, -1))
        return batch.replace(
            mask=mask_unfinished(more, batch.finished),
            policy_weights=chosen.reshape(batch.mask.shape),
        )

    # With weights, so that the same program updates.
    def whole(batch):
        return batch.replace(policy_weights=jnp.ones_like(batch.mask))

    def finished_only(batch):
        return whole(batch).replace(mask=mask_unfinished(batch.mask, batch.finished))

    some = tokens_of(tmp_path / "some", reshape_update=keep_uncertain, config=config)
    same = tokens_of(tmp_path / "same", reshape_update=finished_only, config=config)
    every = tokens_of(tmp_path / "every", reshape_update=whole, config=config)
    assert seen["fields"] == (True, True)
    assert some == pytest.approx(same) and some < every


def test_a_penalty_and_a_reference_reach_the_estimator(mesh, tmp_path):
    def penalty(rollout):
        return sequence_kl(rollout.log_probs, rollout.ref_log_probs, rollout.mask)

    estimator = chain(weigh(), combine(), subtract_penalty(0.5))
    options = {"config": {"reference_log_probs": True}, "ref_params": fresh_state(mesh).params}
    once(tmp_path / "a", mesh, penalty=penalty, transform=estimator, **options)
    (row,) = rows_of(tmp_path / "a")
    assert abs(row["kl/k3"]) < 1e-6
    with pytest.raises(UserError, match="penalty is given, but the estimator takes none off"):
        once(tmp_path / "b", mesh, penalty=penalty, **options)
    with pytest.raises(UserError, match="reference_log_probs=True needs ref_params"):
        once(tmp_path / "c", mesh, config={"reference_log_probs": True})


def test_a_loss_function_of_ones_own_takes_the_place_of_the_configuration(mesh, tmp_path):
    def own(**inputs):
        return policy_objective(ObjectiveConfig(), **inputs)

    state = once(tmp_path / "own", mesh, objective=own)
    assert_same(once(tmp_path / "config", mesh).params, state.params)
    with pytest.raises(UserError, match=r"objective: .*own \(stored\)|objective: .*'gdpo_jax|own'"):
        toy.run(tmp_path / "own", mesh, config=toy.config(steps=2), transform=GDPO)
    with pytest.raises(UserError, match=r"objective must return \(loss, metrics\)"):
        once(tmp_path / "bad", mesh, objective=lambda **inputs: inputs["log_probs"])


WRONG = [
    ({"reshape_rewards": lambda rewards, rollout: rewards.values}, "must return a RewardBatch"),
    ({"reshape_rewards": lambda rewards, rollout: None}, "must return a RewardBatch, got NoneType"),
    (
        {"reshape_rewards": lambda rewards, rollout: append_reward(rewards, "cs", rewards.valid)},
        "reshape_rewards: there is a reward 'cs' already",
    ),
    (
        {"reshape_rewards": lambda r, _: dataclasses.replace(r, values=r.values[:2])},
        "prompts, samples and ranks must stay",
    ),
    ({"reshape_update": lambda batch: batch.mask}, "must return a PolicyBatch"),
    (
        {"reshape_update": lambda batch: batch.replace(mask=batch.mask[..., 0])},
        r"returned mask of shape \(8, 4\); it must be \(8, 4, 8\)",
    ),
    (
        {"reshape_update": lambda batch: batch.replace(mask=batch.advantages)},
        "mask of float32; it must be bool",
    ),
    (
        {"reshape_update": lambda batch: batch.replace(advantages=np.asarray(batch.advantages))},
        r"reshape_update failed on the shapes of a step \(TracerArrayConversionError",
    ),
    ({"penalty": lambda rollout: rollout.mask.sum()}, "one number per completion"),
    ({"transform": gdpo({"cs": 1.0, "taste": 1.0})}, r"unknown: \['taste'\]"),
    (
        {"transform": chain(drop_silent_groups("taste"), GDPO)},
        r"unknown reward 'taste'",
    ),
    ({"config": {"token_entropy": True}}, "token_entropy=True computes entropies for"),
    ({"objective": ObjectiveConfig(old_kl_coef=1.0)}, "old_kl_coef=1.0 acts on old_kl_tokens"),
    ({"config": {"num_samples": 1}}, "num_samples=1 with an estimator that compares"),
    ({"config": {"num_samples": 1}, "transform": grpo()}, "num_samples=1 with an estimator"),
    ({"optimizer": optax.sgd(0.1)}, "the optimizer state of the state are not those of this run"),
    ({"objective": "clip"}, "objective must be an ObjectiveConfig or a function"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=range(len(WRONG)))
def test_mistakes_are_found_before_anything_is_sampled(mesh, tmp_path, changes, message):
    class Untouched:
        def generate(self, *arguments, **options):
            raise AssertionError("sampled")

    with pytest.raises(UserError, match=message):
        once(tmp_path, mesh, engine=Untouched(), **changes)
    assert not list(tmp_path.iterdir())


def test_a_state_with_the_shapes_of_this_run_under_other_names_is_not_taken(mesh):
    one, other = (
        optax.chain(*stages)
        for stages in ((optax.identity(), optax.trace(0.9)), (optax.trace(0.9), optax.identity()))
    )
    state = create_state(toy.POLICY, one, key=jax.random.key(0), mesh=mesh)
    check_state(toy.POLICY, state, one)
    with pytest.raises(UserError, match="the optimizer state of the state are not those"):
        check_state(toy.POLICY, state, other)
    params = dict(state.params)
    params["embedded"] = params.pop("embedding")
    with pytest.raises(UserError, match="the parameters of the state are not those"):
        check_state(toy.POLICY, state.replace(params=params), one)


def test_a_group_of_one_may_learn_from_the_batch(mesh, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class FirstOfFour:
        """The sampler of the other tests, which is compiled already."""

        inner: object

        def generate(self, *arguments, num_samples):
            assert num_samples == 1
            rollout = self.inner.generate(*arguments, num_samples=4)
            of_samples = ("completions", "mask", "log_probs", "finished")
            return rollout.replace(**{name: rollout[name][:, :1] for name in of_samples})

    changes = {"engine": FirstOfFour(toy.engine_on(mesh)), "transform": reinforce_pp()}
    once(tmp_path, mesh, config={"num_samples": 1}, **changes)
    assert rows_of(tmp_path)[0]["grad_norm"] > 0


def test_kl_cov_holds_the_tokens_it_is_given(mesh, tmp_path):
    def hold(batch):
        rows = [x.reshape(32, -1) for x in (batch.sampled_log_probs, batch.advantages, batch.mask)]
        chosen = covariance_tokens(*rows, fraction=0.2)
        return batch.replace(old_kl_tokens=chosen.reshape(batch.mask.shape))

    def hold_none(batch):
        return batch.replace(old_kl_tokens=jnp.zeros_like(batch.mask))

    # The same objective, so that one program updates.
    changes = {"config": {"num_iterations": 2}, "objective": ObjectiveConfig(old_kl_coef=10.0)}
    states = [
        once(tmp_path / each.__name__, mesh, reshape_update=each, **changes)
        for each in (hold, hold_none)
    ]
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), *[s.params for s in states])
    assert max(jax.tree.leaves(moved)) > 0


def test_what_is_dropped_or_unscored_leaves_the_loss_and_its_denominators(mesh, tmp_path):
    class First:
        """Varies in the first group alone; has no opinion on the last sample of each group."""

        name = "first"

        def __call__(self, completions, records):
            return [None if i % 4 == 3 else float(i < 2) for i in range(len(completions))]

    def learned(name, estimator):
        seen = []
        once(
            tmp_path / name,
            mesh,
            transform=estimator,
            reward_functions=(First(),),
            on_step=seen.append,
        )
        (row,) = rows_of(tmp_path / name)
        prompts = sum(len(record["prompt"]) for record in seen[0].records)
        tokens = row["update/filled_fraction"] * row["update/computed_tokens"] - prompts
        return round(tokens), [len(c.token_ids) for c in seen[0].completions]

    # Groups without signal whose zeros count stay, samples without a reward do not.
    tokens, lengths = learned("counted", GDPO)
    assert tokens == sum(length for i, length in enumerate(lengths) if i % 4 != 3)
    tokens, lengths = learned("dropped", chain(drop_silent_groups(), GDPO))
    assert tokens == sum(lengths[:3])


def test_with_ranks_the_tokens_of_invalid_ranks_leave_the_loss():
    segments = np.array([[[0, 0, 1, -1, 5], [0, 1, 1, -1, 0]]], np.int32)
    mask = np.array([[[True, True, True, True, True], [True, True, True, True, False]]])
    valid = np.array([[[True, False], [False, False]]])
    kept = jax.jit(learning_tokens)(valid, segments, mask)
    np.testing.assert_array_equal(kept[0, 0], [True, True, False, True, True])
    assert not kept[0, 1].any()
    np.testing.assert_array_equal(learning_tokens(valid[..., 0], None, mask)[0, 0], mask[0, 0])


def test_on_state_sees_the_parameters_of_every_step(mesh, tmp_path):
    seen = {}

    def watch(step, state):
        seen[step] = toy.as_numpy(state.params)

    state = toy.run(tmp_path / "rl", mesh, config=toy.config(steps=2), on_state=watch)
    assert list(seen) == [0, 1]
    assert_same(seen[1], state.params)
    seen.clear()
    state = toy.sft(tmp_path / "sft", mesh, config=toy.sft_config(steps=2), on_state=watch)
    assert list(seen) == [0, 1]
    assert_same(seen[1], state.params)


def test_configurations_are_plain_and_whole():
    config = PolicyOptimizationConfig(prompt_buckets=[64], steps=np.int64(3), temperature=1)
    assert config.prompt_buckets == (64,) and type(config.steps) is int
    assert hash(config) == hash(dataclasses.replace(config))
    for make, message in (
        (lambda: PolicyOptimizationConfig(steps=2.5), "steps must be a whole number, got 2.5"),
        (lambda: PolicyOptimizationConfig(num_samples=True), "num_samples must be a whole number"),
        (lambda: PolicyOptimizationConfig(seed=-1), "seed must be from 0 to 4294967295, got -1"),
        (lambda: PolicyOptimizationConfig(seed=2**32), "seed must be from 0 to"),
        (lambda: PolicyOptimizationConfig(temperature=float("nan")), "must be a finite number"),
        (lambda: PolicyOptimizationConfig(token_entropy=1), "token_entropy must be True or False"),
        (lambda: PolicyOptimizationConfig(chunk=0), "chunk must be positive"),
        (lambda: SFTConfig(completion_buckets=(8.0,)), "completion_buckets must be whole numbers"),
        (lambda: SFTConfig(prompt_buckets=64), "prompt_buckets must be whole numbers"),
        (
            lambda: record_batches([1, 2], batch_size=1, seed=-1),
            "seed must be a whole number",
        ),
        (
            lambda: record_batches(iter([1]), batch_size=1, seed=0),
            "list_iterator; it must have a length and give records by index",
        ),
    ):
        with pytest.raises(UserError, match=message):
            make()
