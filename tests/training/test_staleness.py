"""Rollouts one step ahead and on a mesh of their own: what they are drawn with, and a resume."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig, SamplerCorrection
from gdpo_jax.policies import LoraConfig, lora_init, lora_policy
from gdpo_jax.policies.log_probs import completion_log_probs
from gdpo_jax.rollouts import RewardError, SamplerConfig
from gdpo_jax.training import (
    batch_sharding,
    create_state,
    fingerprint,
    make_optimizer,
    mesh_engine,
    read_metrics,
    replicated,
    to_global,
)
from gdpo_jax.training.config import differing_fields

CORRECTED = ObjectiveConfig(correction=SamplerCorrection(highest=1.05))
STEPS = 4


@pytest.fixture(scope="module")
def mesh():
    return toy.mesh_of(1)


class Recorded:
    """The sampler, what it was given and what it gave."""

    def __init__(self, mesh):
        self.inner, self.config = toy.engine_on(mesh), toy.engine_on(mesh).config
        self.params, self.rollouts = [], []

    def generate(self, params, *arguments, **options):
        self.params.append(jax.tree.map(jnp.copy, params))
        self.rollouts.append(self.inner.generate(params, *arguments, **options))
        return self.rollouts[-1]


@dataclasses.dataclass
class Vowels:
    """Of each of three letters whether it is a vowel, None where the text has none; raises at its
    n-th call."""

    name: str = "vowels"
    fails: int | None = None
    calls: int = 0

    def __call__(self, completions, records):
        self.calls += 1
        if self.calls == self.fails:
            raise OSError("judge is away")
        return [
            [float(c.text[r] in "aei") if r < len(c.text) else None for r in range(3)]
            for c in completions
        ]


def segment(completion, record):
    return [rank if rank < 3 else -1 for rank in range(len(completion.token_ids))]


def ranked(workdir, mesh, *, fails=None, **changes):
    """A run one step ahead with two rewards per rank, some of them missing."""
    arguments = {
        "config": toy.config(steps=STEPS, staleness=1, checkpoint_every=2),
        "objective": CORRECTED,
        "reward_functions": (Vowels(fails=fails), toy.Brevity()),
        "segment": segment,
        "num_ranks": 3,
    }
    return toy.run(workdir, mesh, **arguments | changes)


@pytest.fixture(scope="module")
def finished(mesh, tmp_path_factory):
    """An undisturbed run: folder, state, fingerprints before each step, engine, samples."""
    workdir, engine, seen = tmp_path_factory.mktemp("finished"), Recorded(mesh), []
    before = [fingerprint(fresh_state(mesh).params)]
    state = ranked(
        workdir,
        mesh,
        engine=engine,
        on_step=seen.append,
        on_state=lambda _, state: before.append(fingerprint(state.params)),
    )
    return workdir, state, before, engine, seen


def fresh_state(mesh):
    optimizer = make_optimizer(toy.OPTIMIZER)
    return create_state(toy.POLICY, optimizer, key=jax.random.key(0), mesh=mesh)


def timeless(workdir):
    return [
        {k: v for k, v in row.items() if "seconds" not in k and "_per_" not in k}
        for row in read_metrics(workdir / "metrics.jsonl")
    ]


def test_a_rollout_is_drawn_with_the_parameters_before_the_step_before_it(finished):
    workdir, _, before, engine, _ = finished
    drawn_with = [fingerprint(params) for params in engine.params]
    assert len(set(before)) == STEPS + 1
    assert drawn_with == [before[0], *before[: STEPS - 1]]
    rows = read_metrics(workdir / "metrics.jsonl")
    assert [row["rollout/staleness"] for row in rows] == [0, 1, 1, 1]
    assert all(row["time/rollout_seconds"] >= 0 for row in rows)
    assert rows[0]["rollout/abs_mean"] < 1e-5
    assert all(row["rollout/abs_mean"] > 1e-3 for row in rows[1:])


def test_the_first_step_is_that_of_the_synchronous_run(mesh, finished, tmp_path):
    synchronous = toy.config(steps=1)
    state = ranked(tmp_path, mesh, config=synchronous)
    assert fingerprint(state.params) == finished[2][1]
    (row,) = timeless(tmp_path)
    first = timeless(finished[0])[0]
    assert row == {name: value for name, value in first.items() if name != "rollout/staleness"}


def test_sampling_of_the_next_step_is_dispatched_before_this_one_is_scored(mesh, tmp_path):
    events, inner = [], toy.engine_on(mesh)

    class Watched:
        def generate(self, *arguments, **options):
            events.append("sample")
            return inner.generate(*arguments, **options)

    def brevity(completions, records):
        events.append("score")
        return [-float(len(c.text)) for c in completions]

    changes = {"engine": Watched(), "reward_functions": (Vowels(), brevity)}
    ranked(tmp_path, mesh, config=toy.config(steps=3, staleness=1), **changes)
    assert events == ["sample", "sample", "score", "sample", "score", "score"]


@jax.jit
def log_probs(params, rollout):
    rows = (rollout.prompts, rollout.prompt_lengths, rollout.completions, rollout.mask)
    return completion_log_probs(toy.POLICY, params, *rows, chunk=None)[0]


@jax.jit
def weighed_gradient(params, rollout, factor):
    return jax.grad(lambda params: jnp.sum(factor * log_probs(params, rollout)))(params)


@pytest.mark.parametrize("old_log_probs", ["trainer", "sampler"])
def test_the_update_is_corrected_for_what_the_rollout_was_drawn_with(mesh, tmp_path, old_log_probs):
    """Plain gradient descent: the second update against the formula, from its own rollout."""
    rate, engine, seen, states = 0.5, Recorded(mesh), [], [fresh_state(mesh).params]
    optimizer = optax.sgd(rate)
    corrected = old_log_probs == "trainer"
    toy.run(
        tmp_path,
        mesh,
        config=toy.config(steps=2, staleness=1, old_log_probs=old_log_probs),
        objective=CORRECTED if corrected else ObjectiveConfig(clip_low=0.01, clip_high=0.02),
        engine=engine,
        optimizer=optimizer,
        state=create_state(toy.POLICY, optimizer, key=jax.random.key(0), mesh=mesh),
        on_step=seen.append,
        on_state=lambda _, state: states.append(jax.tree.map(jnp.copy, state.params)),
    )
    rollout, advantages = engine.rollouts[1], seen[1].advantages[..., None]

    now = np.asarray(log_probs(states[1], rollout), np.float64)
    ratio = np.exp(now - np.asarray(rollout.log_probs, np.float64))
    mask = np.asarray(rollout.mask)
    assert np.abs(ratio - 1)[mask].max() > 0.1
    if corrected:
        weight = np.minimum(ratio, 1.05)
    else:
        # The clipped surrogate passes no gradient where the ratio has left the region.
        outside = np.where(advantages > 0, ratio > 1.02, ratio < 0.99)
        weight = np.where(outside, 0, ratio)
    factor = (np.where(mask, weight * advantages, 0) / mask.sum()).astype(np.float32)

    expected = jax.tree.map(
        lambda param, g: param + rate * g,
        *map(toy.as_numpy, (states[1], weighed_gradient(states[1], rollout, factor))),
    )
    jax.tree.map(
        lambda found, wanted: np.testing.assert_allclose(found, wanted, atol=2e-6),
        toy.as_numpy(states[2]),
        toy.as_numpy(expected),
    )
    if corrected:
        row = read_metrics(tmp_path / "metrics.jsonl")[1]
        assert row["rollout/weight_mean"] == pytest.approx(weight[mask].mean(), abs=1e-5)


@pytest.mark.parametrize("fails", [2, 3])
def test_a_run_that_stops_with_a_rollout_ahead_ends_bit_for_bit(mesh, finished, tmp_path, fails):
    workdir, state, _, engine, _ = finished
    with pytest.raises(RewardError, match="judge is away"):
        ranked(tmp_path, mesh, fails=fails)
    again = Recorded(mesh)
    resumed = ranked(tmp_path, mesh, engine=again)
    toy.assert_same(resumed.params, state.params)
    assert timeless(tmp_path) == timeless(workdir)
    # The rollout of the step in which it stopped was not drawn again.
    assert len(again.rollouts) == STEPS - fails
    toy.assert_same(again.rollouts, engine.rollouts[fails:])


def test_a_run_that_lost_its_last_steps_ends_bit_for_bit(mesh, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / str(STEPS))
    toy.assert_same(ranked(tmp_path / "run", mesh).params, finished[1].params)
    assert timeless(tmp_path / "run") == timeless(finished[0])


def test_rollouts_on_other_devices_train_to_the_same_parameters(tmp_path):
    """Four devices train and four others sample; staleness zero is the synchronous run."""
    mesh = toy.mesh_of(4)
    other = toy.make_mesh(toy.MeshConfig(), jax.devices()[4:])
    engine = toy.engine_on(mesh)
    elsewhere = mesh_engine(toy.POLICY, engine.config, mesh=other, bucket=4)
    for staleness in (0, 1):
        own, apart = tmp_path / f"own{staleness}", tmp_path / f"apart{staleness}"
        # The same objective, so that both compile the same programs.
        changes = {
            "config": toy.config(steps=3, staleness=staleness),
            "objective": CORRECTED,
            "transform": toy.GDPO,
        }
        wanted = toy.run(own, mesh, **changes)
        toy.assert_same(toy.run(apart, mesh, engine=elsewhere, **changes).params, wanted.params)
        assert timeless(apart) == timeless(own)


def test_a_mesh_with_other_axes_draws_the_same_tokens_and_takes_the_base_once():
    mesh, cut, lora = toy.mesh_of(4), toy.mesh_of(4, fsdp=2), LoraConfig(rank=2, alpha=4.0)
    policy, base = lora_policy(toy.POLICY, lora), toy.params_of(0)
    adapters = jax.jit(lora_init, static_argnums=2)(jax.random.key(1), base, lora)
    adapters = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.1), adapters)
    params = jax.device_put({"base": base, "adapters": adapters}, replicated(mesh))
    config = toy.engine_on(mesh).config
    rows = to_global((np.full((8, 4), 3, np.int32), np.full(8, 4, np.int32)), mesh)
    key = jax.random.key(5)
    elsewhere = mesh_engine(policy, config, mesh=cut, bucket=4)
    found = elsewhere.generate(params, *rows, key, num_samples=4)
    assert found.completions.sharding == batch_sharding(cut)
    copied = jax.tree.leaves(elsewhere.frozen.copies)
    elsewhere.generate(params, *rows, key, num_samples=4)
    assert all(a is b for a, b in zip(copied, jax.tree.leaves(elsewhere.frozen.copies)))
    own = toy.jax_engine(policy, config, batch_sharding=batch_sharding(mesh), bucket=4)
    wanted = own.generate(params, *rows, key, num_samples=4)
    np.testing.assert_array_equal(found.completions, wanted.completions)
    np.testing.assert_allclose(found.log_probs, wanted.log_probs, atol=1e-5)
    with pytest.raises(UserError, match="the rollout mesh: prompts 6 is not divisible by 4"):
        elsewhere.generate(params, np.zeros((6, 4)), np.ones(6), key, num_samples=4)


def test_a_mesh_for_rollouts_needs_one_process(mesh, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    config = SamplerConfig(max_new_tokens=4, stop_ids=(toy.STOP,), pad_id=toy.PAD)
    with pytest.raises(UserError, match=r"needs all devices in one process; .*server_engine"):
        mesh_engine(toy.POLICY, config, mesh=mesh)


REFUSED = [
    ({"config": {}}, r"staleness=1 trains .* nothing corrects .* or old_log_probs=\"sampler\""),
    (
        {"objective": ObjectiveConfig(surrogate="reinforce"), "config": {"old": "sampler"}},
        r'surrogate="reinforce" has no ratio that corrects',
    ),
    ({"objective": lambda **batch: None, "config": {}}, "nothing corrects for them"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=range(len(REFUSED)))
def test_a_stale_run_that_nothing_corrects_is_refused(mesh, tmp_path, changes, message):
    old = changes["config"].get("old", "trainer")
    config = toy.config(staleness=1, old_log_probs=old)
    with pytest.raises(UserError, match=message):
        toy.run(tmp_path, mesh, **changes | {"config": config})
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_from_before_the_option_goes_on_without_it():
    stored, now = {"run": {"seed": 1}}, {"run": {"seed": 1, "staleness": 0}}
    assert differing_fields(stored, now) == []
    now["run"]["staleness"] = 1
    assert differing_fields(stored, now) == ["run.staleness: 'absent' (stored), 1 (now)"]


def test_more_than_one_step_ahead_is_refused():
    for value in (2, -1):
        with pytest.raises(UserError, match=f"staleness must be 0 or 1, got {value}"):
            toy.config(staleness=value)
