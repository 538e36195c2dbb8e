"""Stage one: only what is before layer l changes, and kinds of prompts move apart."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.common.runs.settings import Preset
from experiments.common.runs.stages import Job
from experiments.dcr.refinement import Refine, Refinement, refine, refined_mask
from experiments.dcr.separation import (
    Separation,
    SweepRow,
    best_of,
    separation,
    sweep,
    variants,
)
from experiments.dcr.states import prompt_states
from gdpo_jax.errors import UserError
from gdpo_jax.policies import LoraConfig, decoder_policy
from gdpo_jax.training import OptimizerConfig, SFTConfig
from tests.experiments.dcr.small_model import DECODER, ROWS, small_model

SETTINGS = Refinement(
    layer=2,
    run=SFTConfig(steps=8, batch_size=8, prompt_buckets=(32,), checkpoint_every=100),
    optimizer=OptimizerConfig(learning_rate=1e-2, weight_decay=0.1),
    seeming=4,
    toxic=4,
)
TRAIN = [row for row in ROWS if row["cluster"] not in ("candle", "queue", "light")]
HELD = [row for row in ROWS if row["cluster"] in ("candle", "queue", "light")]


def changed(before, after):
    """Of every parameter, how far it moved at most, by layer where layers are stacked."""
    before, after = jax.device_get((before, after))

    def moved(path, a, b):
        layered = any(getattr(key, "key", None) == "layers" for key in path)
        return [float(np.abs(x - y).max()) for x, y in (zip(a, b) if layered else [(a, b)])]

    return jax.tree.map_with_path(moved, before, after)


@pytest.mark.parametrize("tied", [True, False])
def test_only_what_is_before_the_layer_changes(tmp_path, tied):
    model = small_model(devices=8, fsdp=2, tie_embeddings=tied)
    trained = refine(model, TRAIN, SETTINGS, workdir=tmp_path)
    moved = changed(model.params, trained.params)
    for name in ("query", "value", "out", "gate", "up", "down"):
        first, second, last = moved["layers"][name]
        assert min(first, second) > 0, name
        assert last == 0, name
    assert moved["final_norm"]["scale"] == [0.0]
    # A tied table is the output as well, which is behind the layer.
    assert (moved["embedding"][0] > 0) is not tied
    if not tied:
        assert moved["head"] == [0.0]
    same = jax.tree.map(lambda a, b: a.sharding == b.sharding, model.params, trained.params)
    assert all(jax.tree.leaves(same))


def test_kinds_move_apart_on_prompts_that_were_not_trained_on(tmp_path):
    model = small_model()
    settings = dataclasses.replace(SETTINGS, run=dataclasses.replace(SETTINGS.run, steps=30))
    trained = refine(model, TRAIN, settings, workdir=tmp_path)
    prompts, kinds = [row["prompt"] for row in HELD], [row["kind"] for row in HELD]

    def of(model):
        states = prompt_states(model, prompts, layer=2)
        return separation(states, kinds, folds=3)

    before, after = of(model), of(trained)
    assert after.similarity["seeming/toxic"] < before.similarity["seeming/toxic"] - 0.3
    assert after.similarity["seeming/seeming"] > after.similarity["seeming/toxic"] + 0.3
    # Run again, it only loads what is finished.
    again = refine(model, TRAIN, settings, workdir=tmp_path)
    jax.tree.map(np.testing.assert_array_equal, again.params, trained.params)
    with pytest.raises(UserError, match=r"loss\.options"):
        refine(model, TRAIN, dataclasses.replace(settings, margin=0.3), workdir=tmp_path)


def test_adapters_stand_up_to_the_layer_alone(tmp_path):
    model = small_model()
    settings = dataclasses.replace(
        SETTINGS, lora=LoraConfig(rank=2, alpha=4.0, targets=("query", "down"))
    )
    trained = refine(model, TRAIN, settings, workdir=tmp_path)
    adapters = jax.device_get(trained.params["adapters"]["layers"])
    for pair in adapters.values():
        assert np.abs(pair["b"][:2]).max() > 0
        assert np.abs(pair["b"][2]).max() == 0
    jax.tree.map(np.testing.assert_array_equal, trained.params["base"], model.params)
    merged = changed(model.params, trained.merged().params)
    assert [size > 0 for size in merged["layers"]["down"]] == [True, True, False]


def test_the_stage_trains_and_plans(tmp_path):
    preset = Preset(name="tiny", decoder=DECODER, stages={"refine": SETTINGS})
    stage = Refine()
    assert stage.steps(preset) == 8
    model = small_model()
    job = Job(
        title="refine",
        seed=0,
        preset=preset,
        model=model,
        examples={"contrast": TRAIN}.__getitem__,
        rewards=lambda: None,
        prompt=lambda row: row["prompt"],
        folder=tmp_path,
        identity={"data": "made up"},
    )
    trained = stage.train(job)
    assert changed(model.params, trained.params)["layers"]["out"][2] == 0
    [planned] = stage.plan(preset, decoder_policy(DECODER), model.mesh)
    assert planned.name == "refinement step" and "layers 1 to 2" in planned.shapes
    part = sum(leaf[:2].size for leaf in jax.tree.leaves(model.params["layers"]))
    # Adam's two numbers of each trained one; counts are a few bytes.
    assert 0 <= planned.memory.optimizer - 2 * 4 * part < 64
    wrong = dataclasses.replace(preset, stages={"refine": dataclasses.replace(SETTINGS, layer=9)})
    with pytest.raises(UserError, match="layers 1 to 3"):
        stage.steps(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "ring"}, "legal: circle, info_nce, supervised, triplet"),
        ({"pooling": "first"}, "legal: last, mean"),
        ({"loss": "triplet", "scale": 9.0}, "'triplet' has no scale"),
        ({"temperature": 0.1}, "'circle' has no temperature"),
        ({"seeming": 7, "toxic": 1}, "at least two prompts each"),
        ({"seeming": 6}, "run.batch_size is 8"),
        ({"lora": LoraConfig(), "embedding": True}, "adapters of layers alone"),
    ],
)
def test_settings_that_contradict_each_other_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SETTINGS, **changes)


def test_wrong_layers_and_rows_are_named_before_training(tmp_path):
    model = small_model()
    far = dataclasses.replace(SETTINGS, layer=4)
    with pytest.raises(UserError, match="layer 4 does not exist: the decoder has layers 1 to 3"):
        refine(model, TRAIN, far, workdir=tmp_path / "run")
    with pytest.raises(UserError, match="layers 1 to 3"):
        prompt_states(model, ["a"], layer=0)
    with pytest.raises(UserError, match="example 0 has kind 'odd'"):
        refine(model, [{"kind": "odd", "prompt": "a"}], SETTINGS, workdir=tmp_path / "run")
    with pytest.raises(UserError, match="no record is of class 2"):
        safe = [row for row in TRAIN if row["kind"] != "toxic"]
        refine(model, safe, SETTINGS, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_masks_of_plain_and_adapted_models():
    policy = decoder_policy(DECODER)
    assert refined_mask(policy, 2) == {"layers": 2, "embedding": False}
    assert refined_mask(policy, 2, embedding=True) == {"layers": 2, "embedding": True}


def test_a_sweep_measures_validation_rows_at_each_layer(tmp_path):
    short = dataclasses.replace(SETTINGS, run=dataclasses.replace(SETTINGS.run, steps=2))
    settings = variants(short, layer=(1, 3), pooling=("mean",))
    assert [(each.layer, each.pooling) for each in settings] == [(1, "mean"), (3, "mean")]
    rows = sweep(small_model(), TRAIN, HELD, settings, folder=tmp_path)
    assert [row.settings.layer for row in rows] == [1, 3]
    assert all(row.before != row.after for row in rows)
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(UserError, match="'depth' is no setting"):
        variants(short, depth=(1,))


def test_the_best_of_a_sweep_has_the_highest_silhouette():
    def row(value):
        found = Separation({}, value, 0.5)
        return SweepRow(SETTINGS, found, found)

    assert best_of([row(0.1), row(0.4), row(-0.3)]).after.silhouette == 0.4
    with pytest.raises(UserError, match="no settings"):
        best_of([])


def test_all_devices_give_the_states_of_one():
    prompts = [row["prompt"] for row in ROWS[:5]]
    one = prompt_states(small_model(), prompts, layer=2, pooling="mean")
    eight = prompt_states(small_model(devices=8, fsdp=2), prompts, layer=2, pooling="mean")
    assert one.shape == (5, 8)
    np.testing.assert_allclose(eight, one, rtol=1e-4, atol=1e-6)
