"""Policy optimization from records to state: order, resume, mu, ranks, and every way to stop."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from jaxtyping import TypeCheckError

from gdpo_jax.advantages import AdvantageTransform, chain, gdpo
from gdpo_jax.data import record_batches
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import decoder_policy
from gdpo_jax.rollouts import Engine, RewardError
from gdpo_jax.training import (
    Checkpoints,
    NonFiniteLossError,
    make_optimizer,
    read_metrics,
)
from gdpo_jax.training.loop import _columns


@pytest.fixture(scope="module")
def mesh():
    return toy.mesh_of(1)


@pytest.fixture(scope="module")
def finished(mesh, tmp_path_factory):
    """An undisturbed run of four steps: its folder, its state, and what `on_step` saw."""
    workdir, seen = tmp_path_factory.mktemp("finished"), []
    state = toy.run(workdir, mesh, config=toy.config(), on_step=seen.append)
    return workdir, state, seen


def assert_same_params(one, other):
    jax.tree.map(
        np.testing.assert_array_equal, toy.as_numpy(one.params), toy.as_numpy(other.params)
    )


def steps_stored(workdir):
    folders = (workdir / "checkpoints").iterdir()
    return sorted(int(path.name) for path in folders if path.name.isdigit())


def test_a_run_leaves_one_row_per_step_and_the_checkpoints_asked_for(finished):
    workdir, state, _ = finished
    rows = read_metrics(workdir / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert steps_stored(workdir) == [2, 4]
    assert int(state.step) == 4
    for name in (
        "reward/cs/mean",
        "reward/brevity/mean",
        "zero_variance_fraction",
        "entropy",
        "clip_ratio/region_mean",
        "grad_norm",
        "completions/length_mean",
        "tokens_per_second",
        "time/sample_seconds",
        "time/score_seconds",
        "time/update_seconds",
    ):
        assert all(row[name] is not None for row in rows), name
    assert all(row["sampler/gap_max"] < 1e-4 for row in rows)
    seen = np.cumsum([row["tokens"] for row in rows])
    assert [row["tokens_seen"] for row in rows] == seen.tolist()


def test_an_engine_that_takes_long_does_so_on_its_own_time(mesh, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Slow:
        inner: Engine

        def generate(self, params, *arguments, **options):
            jax.block_until_ready(params)  # the update before
            time.sleep(0.5)
            return self.inner.generate(params, *arguments, **options)

    toy.run(tmp_path, mesh, config=toy.config(steps=3), engine=Slow(toy.engine_on(mesh)))
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert all(row["time/sample_seconds"] > 0.25 for row in rows)


def test_on_step_sees_what_was_sampled_and_scored(finished):
    workdir, _, seen = finished
    rows = read_metrics(workdir / "metrics.jsonl")
    assert [sample.step for sample in seen] == [0, 1, 2, 3]
    for sample, row in zip(seen, rows):
        assert len(sample.records) == 8 and len(sample.completions) == 32
        assert sample.rewards.names == ("cs", "brevity")
        lengths = [len(c.text) for c in sample.completions]
        np.testing.assert_array_equal(-sample.rewards.values[..., 1].ravel(), lengths)
        assert sample.advantages.shape == (8, 4)
        assert row["reward/brevity/mean"] == pytest.approx(-np.mean(lengths))


def test_an_interrupted_run_ends_with_the_same_parameters_bit_for_bit(mesh, finished, tmp_path):
    whole, state, _ = finished
    toy.run(tmp_path, mesh, config=toy.config(steps=3))
    resumed = toy.run(tmp_path, mesh, config=toy.config(steps=4))
    assert_same_params(resumed, state)
    timeless = [
        [{k: v for k, v in row.items() if "seconds" not in k and "_per_" not in k} for row in rows]
        for rows in (read_metrics(path / "metrics.jsonl") for path in (whole, tmp_path))
    ]
    assert timeless[0] == timeless[1]


def test_a_finished_run_is_only_read(mesh, finished):
    workdir, state, _ = finished
    before = (workdir / "metrics.jsonl").read_text()
    again = toy.run(workdir, mesh, config=toy.config(), reward_functions=toy.REWARDS)
    assert_same_params(again, state)
    assert (workdir / "metrics.jsonl").read_text() == before


def test_a_changed_option_is_refused_and_nothing_is_touched(mesh, finished):
    workdir, _, _ = finished
    before = (workdir / "metrics.jsonl").read_text(), steps_stored(workdir)
    with pytest.raises(UserError, match=r"run.num_samples: 4 \(stored\), 2 \(now\)") as caught:
        toy.run(workdir, mesh, config=toy.config(num_samples=2), identity={"data": "b"})
    assert "data: 'absent' (stored), 'b' (now)" in str(caught.value)
    with pytest.raises(UserError, match=r"objective.clip_high: 0.2 \(stored\), 0.3 \(now\)"):
        toy.run(workdir, mesh, config=toy.config(), objective=ObjectiveConfig(clip_high=0.3))
    with pytest.raises(UserError, match=r"advantages: .*1.0, 1.0.* \(stored\), .*2.0"):
        toy.run(workdir, mesh, config=toy.config(), transform=gdpo([2.0, 1.0]))
    assert ((workdir / "metrics.jsonl").read_text(), steps_stored(workdir)) == before


def test_a_continuation_may_pay_in_time_instead_of_memory(mesh, finished, tmp_path):
    _, state, _ = finished
    toy.run(tmp_path, mesh, config=toy.config(steps=2))
    cheaper = toy.config(chunk=2, accumulation_steps=2)
    policy = decoder_policy(dataclasses.replace(toy.DECODER, remat="layer"))
    resumed = toy.run(tmp_path, mesh, config=cheaper, policy=policy)
    assert int(resumed.step) == 4
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5),
        toy.as_numpy(resumed.params),
        toy.as_numpy(state.params),
    )


def test_metrics_of_a_step_arrive_after_the_next_one_has_been_dispatched(mesh, tmp_path):
    events = []
    engine = toy.engine_on(mesh)

    class Watched:
        def generate(self, *arguments, **options):
            events.append("sample")
            return engine.generate(*arguments, **options)

    toy.run(
        tmp_path,
        mesh,
        config=toy.config(steps=3, checkpoint_every=100),
        engine=Watched(),
        on_step=lambda sample: events.append(sample.step),
    )
    assert events == ["sample", "sample", 0, "sample", 1, 2]


def test_inner_iterations_and_mini_batches_update_more_often(mesh, tmp_path):
    config = toy.config(steps=2, num_iterations=2, mini_batches=2)
    state = toy.run(tmp_path / "trainer", mesh, config=config)
    assert int(state.step) == 2 * 2 * 2
    rows = read_metrics(tmp_path / "trainer" / "metrics.jsonl")
    assert all(row["ratio/max"] > 1.0 > row["ratio/min"] for row in rows)
    sampler = dataclasses.replace(config, old_log_probs="sampler")
    other = toy.run(tmp_path / "sampler", mesh, config=sampler)
    assert int(other.step) == 8
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3),
        toy.as_numpy(state.params),
        toy.as_numpy(other.params),
    )


def test_the_reference_policy_is_needed_only_for_kl(mesh, tmp_path):
    objective = ObjectiveConfig(kl="k3", kl_coef=0.1)
    with pytest.raises(UserError, match="needs ref_params"):
        toy.run(tmp_path / "none", mesh, config=toy.config(), objective=objective)
    reference = toy.fresh_state(mesh, make_optimizer(toy.OPTIMIZER))
    toy.run(
        tmp_path / "kl",
        mesh,
        config=toy.config(steps=2),
        objective=objective,
        ref_params=reference.params,
    )
    first, second = read_metrics(tmp_path / "kl" / "metrics.jsonl")
    assert abs(first["kl/k3"]) < 1e-9 < second["kl/k3"]


def test_ranks_are_scored_and_credited_separately(mesh, tmp_path):
    class EvenIsGood:
        """Rank r is token r; even letters are rewarded; ranks without a letter have no opinion."""

        name = "even"

        def __call__(self, completions, records):
            return [
                [float(ord(c.text[r]) % 2) if r < len(c.text) else None for r in range(3)]
                for c in completions
            ]

    def segment(completion, record):
        if not completion.text:
            return None
        return [rank if rank < 3 else -1 for rank in range(len(completion.token_ids))]

    seen = []
    arguments = {
        "config": toy.config(steps=1),
        "reward_functions": (EvenIsGood(), toy.Brevity()),
        "num_ranks": 3,
        "objective": ObjectiveConfig(level="segment", max_segments=3),
    }
    toy.run(tmp_path / "a", mesh, segment=segment, on_step=seen.append, **arguments)
    (sample,) = seen
    assert sample.rewards.values.shape == (8, 4, 2, 3)
    assert sample.advantages.shape == (8, 4, 3)
    (row,) = read_metrics(tmp_path / "a" / "metrics.jsonl")
    assert 0 < row["reward/even/missing_fraction"] < 1
    with pytest.raises(RewardError, match=r"segment gave 1 values for the \d tokens of sample \d+"):
        toy.run(tmp_path / "b", mesh, segment=lambda completion, record: [0], **arguments)
    with pytest.raises(UserError, match="segment and num_ranks belong together"):
        toy.run(tmp_path / "c", mesh, **arguments)


def test_what_the_live_display_shows_is_logged(finished):
    rows = read_metrics(finished[0] / "metrics.jsonl")
    shown = dict(_columns([function.name for function in toy.REWARDS]))
    assert set(shown) >= {"kl", "entropy", "clipped", "zero-variance", "tokens/s"}
    # Without a KL term there is no KL to show.
    assert set(shown.values()) - set(rows[-1]) <= {"kl/k3"}


def test_shaping_is_added_to_the_advantages_of_tokens(mesh, finished, tmp_path):
    def shaped(value, workdir):
        def shaping(completion, record):
            return [value] * len(completion.token_ids) if completion.finished else None

        return toy.run(workdir, mesh, config=toy.config(), shaping=shaping)

    assert_same_params(shaped(0.0, tmp_path / "zero"), finished[1])
    moved = shaped(1.0, tmp_path / "one")
    pairs = zip(jax.tree.leaves(moved.params), jax.tree.leaves(finished[1].params))
    assert any(not np.array_equal(one, other) for one, other in pairs)
    with pytest.raises(RewardError, match=r"shaping gave 0 values for the \d tokens of sample 0"):
        toy.run(
            tmp_path / "short",
            mesh,
            config=toy.config(),
            shaping=lambda completion, record: [],
        )


def test_a_reward_that_raises_stops_the_run_after_the_state_is_stored(mesh, finished, tmp_path):
    calls = []

    class Fragile(toy.Brevity):
        def __call__(self, completions, records):
            calls.append(len(completions))
            if len(calls) > 1:
                raise OSError("judge is away")
            return super().__call__(completions, records)

    config = toy.config(checkpoint_every=100)
    with pytest.raises(RewardError, match=r"'brevity' raised OSError: judge is away\non sample 0"):
        toy.run(tmp_path, mesh, config=config, reward_functions=(toy.REWARDS[0], Fragile()))
    assert steps_stored(tmp_path) == [1]
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [0]
    resumed = toy.run(tmp_path, mesh, config=config)
    assert_same_params(resumed, finished[1])


def poison(at: int) -> AdvantageTransform:
    """NaN advantages in step `at`, counted in the advantage state."""

    def update(flow, state):
        values = jnp.where(state == at, jnp.nan, flow.values)
        return dataclasses.replace(flow, values=values), state + 1

    return AdvantageTransform(init=lambda names: jnp.zeros((), jnp.int32), update=update)


POISONED = chain(toy.GDPO, poison(at=2))


@pytest.mark.parametrize("checkpoint_every", [100, 1])
def test_a_loss_that_is_not_finite_stops_after_the_last_good_state_is_stored(
    mesh, tmp_path, checkpoint_every
):
    config = toy.config(checkpoint_every=checkpoint_every)
    with pytest.raises(NonFiniteLossError, match="step 2: loss nan") as caught:
        toy.run(tmp_path, mesh, config=config, transform=POISONED)
    assert isinstance(caught.value, FloatingPointError)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1]
    assert steps_stored(tmp_path)[-1] == 2
    optimizer = make_optimizer(toy.OPTIMIZER)
    state = toy.fresh_state(mesh, optimizer)
    params = Checkpoints(tmp_path / "checkpoints", config={}).restore_params(state.params)
    good = toy.run(tmp_path / "good", mesh, config=toy.config(steps=2))
    jax.tree.map(np.testing.assert_array_equal, toy.as_numpy(params), toy.as_numpy(good.params))


def test_options_that_cannot_work_are_refused_at_once(mesh, tmp_path):
    with pytest.raises(UserError, match="prompts_per_step 8 is not divisible by 3"):
        toy.run(tmp_path, mesh, config=toy.config(accumulation_steps=3))
    with pytest.raises(UserError, match=r"samples at temperature 1.0, .* at 0.5; make them equal"):
        toy.run(tmp_path, mesh, config=toy.config(temperature=0.5))
    with pytest.raises(UserError, match="num_samples must be positive"):
        toy.config(num_samples=0)
    # With run-time type checks a wrong word is refused before the configuration sees it.
    with pytest.raises((UserError, TypeCheckError), match=r"'trainer'.*'sampler'"):
        toy.config(old_log_probs="mine")
    with pytest.raises((UserError, TypeCheckError), match=r"'shared'.*'plain'"):
        toy.config(layout="ragged")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"records": record_batches(toy.RECORDS, batch_size=4, seed=0)},
            "gave 4 records, but slice 0 of 1 of a batch of 8 has 8",
        ),
        (
            {"records": record_batches(toy.RECORDS[:8], batch_size=8, seed=0, repeat=False)},
            "records ran out",
        ),
        ({"encode": lambda record: [1] * 9}, "a prompt of 9 tokens is longer than every bucket"),
        ({"encode": lambda record: []}, "prompt in row 0 has 0 tokens"),
    ],
)
def test_records_that_do_not_fit_are_named(mesh, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        toy.run(tmp_path, mesh, config=toy.config(steps=2), **changes)


def test_sft_learns_and_resumes_bit_for_bit(mesh, tmp_path):
    seen = []
    whole = toy.sft(
        tmp_path / "a", mesh, config=toy.sft_config(), on_step=lambda step, row: seen.append(step)
    )
    rows = read_metrics(tmp_path / "a" / "metrics.jsonl")
    assert seen == [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[0]["tokens"] > 0 and rows[0]["tokens_per_second"] > 0
    toy.sft(tmp_path / "b", mesh, config=toy.sft_config(steps=3))
    assert_same_params(toy.sft(tmp_path / "b", mesh, config=toy.sft_config()), whole)
    with pytest.raises(UserError, match=r"run\.layout: 'shared' \(stored\), 'plain' \(now\)"):
        toy.sft(tmp_path / "b", mesh, config=toy.sft_config(layout="plain"))


def test_sft_that_diverges_stops_with_the_last_good_state(mesh, tmp_path):
    optimizer = make_optimizer(
        dataclasses.replace(toy.OPTIMIZER, learning_rate=1e38, warmup_updates=0)
    )
    state = toy.fresh_state(mesh, optimizer)
    config = toy.sft_config(checkpoint_every=100)
    with pytest.raises(NonFiniteLossError, match=r"step 1: .* gradient norm nan"):
        toy.sft(tmp_path, mesh, config=config, optimizer=optimizer, state=state)
    (step,) = steps_stored(tmp_path)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == step
