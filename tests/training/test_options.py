"""What a run takes besides its records: functions on rewards and updates, an optimizer, a state."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from gdpo_jax.advantages import (
    AdvantageTransform,
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
    SamplerCorrection,
    covariance_tokens,
    mask_unfinished,
    policy_objective,
    sequence_kl,
    top_entropy_tokens,
)
from gdpo_jax.training import (
    OptimizerConfig,
    PolicyOptimizationConfig,
    SFTConfig,
    create_state,
    make_optimizer,
    read_metrics,
)
from gdpo_jax.training.advantage_step import learning_tokens
from gdpo_jax.training.optimizers import describe_optimizer

GDPO = gdpo()


@pytest.fixture(scope="module")
def mesh():
    return toy.mesh_of(1)


def rows_of(workdir):
    return read_metrics(workdir / "metrics.jsonl")


def fresh_state(mesh):
    return create_state(toy.POLICY, toy.OPTIMIZER, key=jax.random.key(0), mesh=mesh)


def once(workdir, mesh, **changes):
    """One step with the estimator that all tests here share."""
    config = toy.config(steps=1, **changes.pop("config", {}))
    return toy.run(workdir, mesh, config=config, **{"transform": GDPO} | changes)


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, toy.as_numpy(one), toy.as_numpy(other))


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

    def finished_only(batch):
        return batch.replace(mask=mask_unfinished(batch.mask, batch.finished))

    some = tokens_of(tmp_path / "some", reshape_update=keep_uncertain, config=config)
    same = tokens_of(tmp_path / "same", reshape_update=finished_only, config={"mini_batches": 2})
    every = tokens_of(tmp_path / "every", config={"mini_batches": 2})
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


def test_a_group_of_one_may_learn_from_the_batch(mesh, tmp_path):
    once(tmp_path, mesh, config={"num_samples": 1}, transform=reinforce_pp())
    assert rows_of(tmp_path)[0]["grad_norm"] > 0


def test_kl_cov_holds_the_tokens_it_is_given(mesh, tmp_path):
    def hold(batch):
        rows = [x.reshape(32, -1) for x in (batch.sampled_log_probs, batch.advantages, batch.mask)]
        chosen = covariance_tokens(*rows, fraction=0.2)
        return batch.replace(old_kl_tokens=chosen.reshape(batch.mask.shape))

    config = {"num_iterations": 2}
    states = [
        once(
            tmp_path / str(coef),
            mesh,
            config=config,
            objective=ObjectiveConfig(old_kl_coef=coef),
            reshape_update=hold,
        )
        for coef in (1e-6, 10.0)
    ]
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), *[s.params for s in states])
    assert max(jax.tree.leaves(moved)) > 0


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
    segments = jnp.array([[[0, 0, 1, -1, 5], [0, 1, 1, -1, 0]]])
    mask = jnp.array([[[True, True, True, True, True], [True, True, True, True, False]]])
    valid = jnp.array([[[True, False], [False, False]]])
    kept = learning_tokens(valid, segments, mask)
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


@dataclasses.dataclass(frozen=True)
class Silent:
    """An engine that reports no log-probs."""

    inner: object

    def generate(self, *arguments, **options):
        rollout = self.inner.generate(*arguments, **options)
        return rollout.replace(log_probs=None, sampled_log_probs=None)


def test_an_engine_without_log_probs_trains_and_measures_no_mismatch(mesh, tmp_path):
    engine = Silent(toy.engine_on(mesh))
    state = once(tmp_path / "silent", mesh, engine=engine)
    (row,) = rows_of(tmp_path / "silent")
    assert not [name for name in row if name.startswith(("rollout/", "sampler/"))]
    assert_same(state.params, once(tmp_path / "told", mesh).params)
    objective = ObjectiveConfig(correction=SamplerCorrection())
    with pytest.raises(UserError, match=r"objective\.correction needs log-probs, and the engine"):
        once(tmp_path / "a", mesh, engine=engine, objective=objective)
    with pytest.raises(UserError, match='old_log_probs="sampler" needs log-probs'):
        once(tmp_path / "b", mesh, engine=engine, config={"old_log_probs": "sampler"})


def test_log_probs_drawn_from_are_what_the_update_compares(mesh, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Truncated:
        inner: object

        def generate(self, *arguments, **options):
            rollout = self.inner.generate(*arguments, **options)
            return rollout.replace(sampled_log_probs=rollout.log_probs + 0.25)

    once(tmp_path, mesh, engine=Truncated(toy.engine_on(mesh)))
    (row,) = rows_of(tmp_path)
    assert row["sampler/gap_mean"] == pytest.approx(0.25, abs=1e-4)


def test_an_engine_that_answers_something_else_is_named(mesh, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Short:
        inner: object

        def generate(self, *arguments, num_samples):
            return self.inner.generate(*arguments, num_samples=num_samples - 1)

    with pytest.raises(UserError, match=r"engine returned completions \(8, 3, 6\), mask \(8, 3, 6"):
        once(tmp_path, mesh, engine=Short(toy.engine_on(mesh)))


BAD_RECORDS = [
    (lambda record: record["question"], r"record 0 of the batch has no field 'question', which"),
    (lambda record: record["question"], r"its fields are \['id', 'prompt'\]"),
    (lambda record: 1 / 0, r"`encode` raised ZeroDivisionError: .*\non record 0 of the batch"),
    (lambda record: "abc", "prompt of record 0 of the batch is str; `encode` must give a list"),
    (lambda record: [1.5, 2.0], r"holds something that is no token id: \[1.5, 2.0\]"),
    (lambda record: [1, 16], "prompt of record 0 of the batch holds token id 16; .* 0 to 15"),
    (lambda record: [-1], "holds token id -1"),
]


@pytest.mark.parametrize(("encode", "message"), BAD_RECORDS, ids=range(len(BAD_RECORDS)))
def test_records_that_cannot_be_encoded_are_named(mesh, tmp_path, encode, message):
    with pytest.raises(UserError, match=message):
        once(tmp_path / "rl", mesh, encode=encode)
    with pytest.raises(UserError, match=message):
        toy.sft(
            tmp_path / "sft",
            mesh,
            config=toy.sft_config(steps=1),
            encode=lambda record: (encode(record), [1]),
        )


def test_a_bucket_beyond_the_positions_is_as_wide_as_they_are(mesh, tmp_path):
    # 48 positions, completions of 6 and 4 tokens.
    records = [{"id": i, "prompt": [1] * 42} for i in range(8)]
    changes = {"records": toy.records_for(mesh, 8, source=records)}
    once(tmp_path / "rl", mesh, config={"prompt_buckets": (4, 512)}, **changes)
    assert len(rows_of(tmp_path / "rl")) == 1
    toy.sft(
        tmp_path / "sft",
        mesh,
        config=toy.sft_config(steps=1, prompt_buckets=(512,), completion_buckets=(4, 64)),
        records=toy.records_for(mesh, 8, source=records),
        encode=lambda record: (record["prompt"], [1, 2]),
    )
    longer = [{"id": i, "prompt": [1] * 43} for i in range(8)]
    changes = {"records": toy.records_for(mesh, 8, source=longer)}
    with pytest.raises(UserError, match=r"prompt of 43 tokens is longer than every bucket \[4, 42"):
        once(tmp_path / "long", mesh, config={"prompt_buckets": (4, 512)}, **changes)


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
