"""Evaluation while a run trains: what is counted, what is kept, and when it stops."""

import jax
import numpy as np
import pytest
import toy

from gdpo_jax.advantages import gdpo
from gdpo_jax.errors import UserError
from gdpo_jax.rollouts import SamplerConfig, jax_engine
from gdpo_jax.training import (
    Checkpoints,
    Evaluation,
    batch_sharding,
    read_metrics,
)

GDPO = gdpo()
BRIEF = "eval/reward/brevity/mean"


@pytest.fixture(scope="module")
def mesh():
    return toy.mesh_of(1)


def greedy(mesh):
    config = SamplerConfig(max_new_tokens=6, stop_ids=(toy.STOP,), pad_id=toy.PAD, temperature=0.0)
    return jax_engine(toy.POLICY, config, batch_sharding=batch_sharding(mesh), bucket=4)


def evaluated(workdir, mesh, *, steps=4, run=None, **changes):
    options = {"engine": greedy(mesh), "records": toy.RECORDS[:11], "every": 2, "batch_size": 8}
    evaluation = Evaluation(**(options | changes))
    config = toy.config(steps=steps, checkpoint_every=3)
    arguments = {"transform": GDPO, "evaluation": evaluation} | (run or {})
    return toy.run(workdir, mesh, config=config, **arguments)


def columns(workdir):
    rows = read_metrics(workdir / "metrics.jsonl")
    return {
        row["step"]: {name: value for name, value in row.items() if name.startswith("eval/")}
        for row in rows
    }


class Scripted:
    """Gives every completion of the n-th call the n-th value, and remembers what it was given."""

    name = "scripted"

    def __init__(self, *values):
        self.values, self.calls = list(values), []

    def __call__(self, completions, records):
        self.calls.append([record["id"] for record in records])
        return [self.values[(len(self.calls) - 1) // 2]] * len(completions)


def test_every_record_counts_once_and_columns_stand_in_the_row_of_the_step(mesh, tmp_path):
    script = Scripted(1.0, 2.0)
    evaluated(tmp_path, mesh, reward_functions=(script, toy.Brevity()))
    found = columns(tmp_path)
    assert [bool(found[step]) for step in range(4)] == [False, True, False, True]
    assert [found[step]["eval/reward/scripted/mean"] for step in (1, 3)] == [1.0, 2.0]
    # Eleven records in batches of eight: what fills up the second batch is not scored.
    assert script.calls == [[*range(8)], [8, 9, 10]] * 2
    assert found[1]["eval/reward/scripted/missing_fraction"] == 0
    assert 0 <= found[1]["eval/completions/truncated_fraction"] <= 1
    assert 1 <= found[1]["eval/completions/length_mean"] <= 6
    rows = read_metrics(tmp_path / "metrics.jsonl")
    undisturbed = toy.run(tmp_path / "without", mesh, config=toy.config(steps=4), transform=GDPO)
    others = read_metrics(tmp_path / "without" / "metrics.jsonl")
    assert [row["loss"] for row in rows] == [row["loss"] for row in others]
    assert int(undisturbed.step) == 4


def test_the_best_parameters_are_kept_and_patience_stops_the_run(mesh, tmp_path):
    values = (1.0, 3.0, 2.0, 3.0, 9.0)
    options = {"metric": "eval/reward/scripted/mean", "patience": 2, "every": 1}

    def run(workdir, script, **changes):
        return evaluated(workdir, mesh, reward_functions=(script,), **options, **changes)

    kept = {}

    def keep(step, state):
        # On disk before any checkpoint of the run can name it.
        assert step not in (1, 2) or (tmp_path / "whole" / "best" / str(step)).is_dir()
        kept[step + 1] = toy.as_numpy(state.params)

    state = run(tmp_path / "whole", Scripted(*values), steps=6, run={"on_state": keep})
    # Best after two steps, no better after three and four.
    assert int(state.step) == 4 and list(columns(tmp_path / "whole")) == [0, 1, 2, 3]
    like = toy.fresh_state(mesh, toy.OPTIMIZER).params
    best = Checkpoints(tmp_path / "whole" / "best", config={})
    assert best.latest_step == 2
    jax.tree.map(np.testing.assert_array_equal, toy.as_numpy(best.restore_params(like)), kept[2])
    best.close()

    # Interrupted after the third step, it stops at the same step with the same parameters.
    run(tmp_path / "parts", Scripted(*values), steps=3)
    again = run(tmp_path / "parts", Scripted(*values[3:]), steps=6)
    jax.tree.map(
        np.testing.assert_array_equal, toy.as_numpy(again.params), toy.as_numpy(state.params)
    )
    assert columns(tmp_path / "parts") == columns(tmp_path / "whole")
    # And once stopped, it stays so.
    script = Scripted(*values)
    assert int(run(tmp_path / "parts", script, steps=6).step) == 4 and not script.calls
    with pytest.raises(UserError, match="keeps the best by metric='eval/reward/scripted/mean'"):
        evaluated(tmp_path / "parts", mesh, steps=6, metric=BRIEF)


def test_an_evaluation_that_fails_is_done_again(mesh, tmp_path):
    class Away(Scripted):
        def __call__(self, completions, records):
            if self.values[0] is None:
                raise OSError("judge is away")
            return super().__call__(completions, records)

    options = {"metric": "eval/reward/scripted/mean", "steps": 2}
    with pytest.raises(UserError, match="judge is away"):
        evaluated(tmp_path, mesh, reward_functions=(Away(None),), **options)
    script = Away(5.0)
    evaluated(tmp_path, mesh, reward_functions=(script,), **options)
    assert script.calls == [[*range(8)], [8, 9, 10]]
    assert (tmp_path / "best" / "2").is_dir()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": 0}, "evaluation every must be a positive number, got 0"),
        ({"every": 9}, "every=9 steps is never reached in 4 steps"),
        ({"patience": 2}, "patience needs a metric"),
        ({"metric": "reward/brevity/mean"}, "'reward/brevity/mean' is unknown; known: .*'eval/rew"),
        ({"records": []}, "at least one record"),
        ({"batch_size": 0}, "batch_size must be a positive number"),
    ],
)
def test_evaluations_that_cannot_be_are_refused(mesh, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        evaluated(tmp_path, mesh, **changes)
    assert not list(tmp_path.iterdir())
