"""Imitation with clipped users as a stage: what it learns from, writes and guarantees."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.common.runs.settings import Preset
from experiments.common.runs.stages import Job
from experiments.persona_leakage.learning.private import Private, PrivateImitation
from gdpo_jax.errors import UserError
from gdpo_jax.policies import DecoderConfig, decoder_policy, train_tokenizer
from gdpo_jax.recipe import open_model
from gdpo_jax.training import (
    MeshConfig,
    OptimizerConfig,
    SFTConfig,
    UserClipping,
    make_mesh,
    read_metrics,
)

ROWS = [
    {"prompt": f"what is in box {n}", "completion": f"a {thing}, dear {name}", "user": name}
    for name in ("ada", "ben", "cleo", "dan")
    for n, thing in enumerate(("lamp", "clock", "stone")[: 1 + len(name) % 3])
]
TOKENIZER = train_tokenizer([row["prompt"] + row["completion"] for row in ROWS], vocab_size=300)
DECODER = DecoderConfig(
    vocab_size=TOKENIZER.vocab_size,
    d_model=8,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    d_ff=8,
    max_positions=64,
)
SETTINGS = PrivateImitation(
    run=SFTConfig(
        steps=3, batch_size=2, prompt_buckets=(32,), completion_buckets=(32,), chunk=None
    ),
    optimizer=OptimizerConfig(learning_rate=1e-2),
    users=UserClipping(max_norm=0.1, noise=1.0, rows_per_user=2, users_at_once=2),
)


def job(folder, settings=SETTINGS, rows=ROWS):
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    return Job(
        title="private",
        seed=1,
        preset=preset(settings),
        model=open_model(DECODER, mesh, tokenizer=TOKENIZER, remat="none", key=jax.random.key(2)),
        examples={"pooled": rows}.__getitem__,
        rewards=lambda: pytest.fail("no rewards"),
        prompt=lambda row: row["prompt"],
        folder=folder,
        identity={"arm": "private"},
    )


def preset(settings=SETTINGS):
    return Preset(name="small", decoder=DECODER, stages={"private": settings})


def test_the_stage_trains_tells_who_was_clipped_and_only_loads_what_is_finished(tmp_path):
    stage, ready = Private(), job(tmp_path)
    assert stage.steps(ready.preset) == 3
    trained = stage.train(ready)
    moved = jax.tree.map(
        lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()),
        ready.model.params,
        trained.params,
    )
    assert min(jax.tree.leaves(moved)) > 0  # noise reaches every parameter
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert len(rows) == 3
    assert all(0 <= row["users"] <= 4 and 0 <= row["clipped_share"] <= 1 for row in rows)
    assert max(row["user_norm"] for row in rows) > SETTINGS.users.max_norm
    again = stage.train(ready)
    jax.tree.map(np.testing.assert_array_equal, again.params, trained.params)
    assert read_metrics(tmp_path / "metrics.jsonl") == rows
    other = dataclasses.replace(SETTINGS, users=dataclasses.replace(SETTINGS.users, max_norm=0.2))
    with pytest.raises(UserError, match=r"users\.max_norm: 0\.1 \(stored\), 0\.2 \(now\)"):
        stage.train(job(tmp_path, other))


def test_the_plan_counts_the_places_of_users():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    [planned] = Private().plan(preset(), decoder_policy(DECODER), mesh)
    # Two users expected, and four deviations of sqrt(2): 8 places of 2 rows.
    assert planned.name == "private step"
    assert planned.shapes == "16 rows, prompt 32, completion 32, 2 users at a time"
    assert planned.memory.temporary > 0


@pytest.mark.parametrize(
    ("settings", "rows", "message"),
    [
        (SETTINGS, ROWS[:1], "records are of 1 users, and a batch is to have 2; expect at most 1"),
        (SETTINGS, [{**ROWS[0], "completion": "long " * 40}], "do not fit; record 0"),
        (SETTINGS, [{"prompt": "what", "completion": "a"}], "record 0 has no usable user"),
        (
            dataclasses.replace(
                SETTINGS, run=dataclasses.replace(SETTINGS.run, accumulation_steps=2)
            ),
            ROWS,
            "set users_at_once for memory",
        ),
        (
            dataclasses.replace(SETTINGS, run=dataclasses.replace(SETTINGS.run, sort_batches=2)),
            ROWS,
            "sort_batches",
        ),
    ],
)
def test_what_cannot_be_trained_is_named_before_anything_is_written(
    tmp_path, settings, rows, message
):
    with pytest.raises(UserError, match=message):
        Private().train(job(tmp_path / "run", settings, rows))
    assert not (tmp_path / "run").exists()


def test_the_guarantee_is_of_the_users_there_are():
    quiet = dataclasses.replace(SETTINGS, users=dataclasses.replace(SETTINGS.users, noise=0.0))
    assert quiet.guarantee(24) is None
    with pytest.raises(UserError, match="2 users are expected in a step, of 1"):
        SETTINGS.guarantee(1)
    with pytest.raises(UserError, match=r"one of 200 users .* below 0\.005"):
        SETTINGS.guarantee(200)
    with pytest.raises(UserError, match="delta must be between 0 and 1"):
        dataclasses.replace(SETTINGS, delta=0.0)
    pytest.importorskip("dp_accounting")
    few, many = SETTINGS.guarantee(4), SETTINGS.guarantee(40)
    assert few.delta == many.delta == 0.01
    # The rarer a user is in a step, the less of him is given away.
    assert 0 < many.epsilon < few.epsilon
