"""The refusal direction is taken out of all states, and nothing else changes."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common.runs.settings import Preset
from experiments.common.runs.stages import Job
from experiments.dcr.ablation import Ablate, Ablation, ablate, find_direction, orthogonalized
from experiments.dcr.directions import mean_difference
from experiments.dcr.states import prompt_states, states_of_layers
from gdpo_jax.answers import answer, sampler_config
from gdpo_jax.errors import UserError
from gdpo_jax.policies import LoraConfig
from gdpo_jax.recipe import with_lora
from tests.experiments.dcr.small_model import DECODER, ROWS, small_model

PROMPTS = [row["prompt"] for row in ROWS]
UNIT = np.array([0, 0.6, 0, 0, 0, 0, 0.8, 0], np.float32)


def test_mean_difference_by_hand():
    states = np.array([[1.0, 2], [3, 2], [-1, 2], [-1, 8]])
    # Means (2, 2) and (-1, 5): the difference is (3, -3).
    unit, norm = mean_difference(states, np.array([True, True, False, False]), where="here")
    np.testing.assert_allclose(unit, np.array([1, -1]) / np.sqrt(2))
    np.testing.assert_allclose(norm, np.sqrt(18))


def test_what_is_taken_out_by_hand():
    params = {
        "embedding": jnp.array([[3.0, 4], [0, 1]]),
        "layers": {"out": jnp.array([[[[5.0, 0]]]]), "down": jnp.array([[[0.0, 2]]]), "up": 7},
        "final_norm": 1,
    }
    found = orthogonalized(params, jnp.array([0.6, 0.8]))
    # (3, 4) is 5 times the direction; (0, 1) is 0.8, (5, 0) is 3 and (0, 2) is 1.6 times it.
    np.testing.assert_allclose(found["embedding"], [[0, 0], [-0.48, 0.36]], atol=1e-6)
    np.testing.assert_allclose(found["layers"]["out"], [[[[3.2, -2.4]]]], rtol=1e-6)
    np.testing.assert_allclose(found["layers"]["down"], [[[-0.96, 0.72]]], rtol=1e-5)
    assert (found["layers"]["up"], found["final_norm"]) == (7, 1)
    half = orthogonalized(params, jnp.array([0.6, 0.8]), 0.5)
    np.testing.assert_allclose(half["embedding"][0], [1.5, 2])


@pytest.mark.parametrize(
    ("devices", "changes"),
    [(1, {}), (8, {"tie_embeddings": False}), (1, {"scale_embeddings": True})],
)
def test_no_state_has_a_component_along_the_direction(devices, changes):
    model = small_model(devices=devices, fsdp=min(devices, 2), **changes)
    before = states_of_layers(model, PROMPTS, layers=(1, 2, 3), pooling="mean")
    after = states_of_layers(ablate(model, UNIT), PROMPTS, layers=(1, 2, 3), pooling="mean")
    assert np.abs(before @ UNIT).min(axis=0).max() > 1e-4
    np.testing.assert_allclose(after @ UNIT, 0, atol=1e-6)


def test_a_strength_of_zero_changes_no_bit():
    model = small_model()
    assert ablate(model, UNIT, strength=0.0) is model
    same = jax.jit(orthogonalized)(model.params, jnp.asarray(UNIT), 0.0)
    jax.tree.map(np.testing.assert_array_equal, same, model.params)


def test_the_table_of_logits_is_kept_or_ablated():
    model = small_model(devices=8, fsdp=2)
    kept, ablated = ablate(model, UNIT), ablate(model, UNIT, output="ablated")
    np.testing.assert_array_equal(kept.params["head"].T, model.params["embedding"])
    assert not kept.policy.config.tie_embeddings
    assert ablated.policy is model.policy
    assert jax.tree.structure(ablated.params) == jax.tree.structure(model.params)
    same = jax.tree.map(lambda a, b: a.sharding == b.sharding, ablated.params, model.params)
    assert all(jax.tree.leaves(same))
    # The same as removing it from the states on the way: the paths differ in the logits alone.
    states = [prompt_states(each, PROMPTS, layer=3) for each in (kept, ablated)]
    np.testing.assert_allclose(*states, rtol=1e-5, atol=1e-6)


def test_the_ablated_model_answers_and_is_stored(tmp_path):
    model = ablate(small_model(devices=8, fsdp=2), UNIT)
    sampler = sampler_config(model, max_new_tokens=4, temperature=0.0)
    texts = answer(model, PROMPTS[:3], sampler=sampler)
    assert texts == answer(ablate(small_model(), UNIT), PROMPTS[:3], sampler=sampler)
    model.save(tmp_path)
    assert not json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"]


def test_the_layer_is_chosen_by_the_separation_of_validation_prompts():
    model = small_model()
    train, held = ROWS[:15], ROWS[15:]
    found = find_direction(model, train, Ablation(candidates=(1, 2, 3)), validation=held)
    values = {layer: each.silhouette for layer, each in found.candidates.items()}
    assert list(values) == [1, 2, 3] and found.layer == max(values, key=values.get)
    fixed = find_direction(model, train, Ablation(layer=found.layer))
    np.testing.assert_array_equal(fixed.unit, found.unit)
    assert (fixed.norm, fixed.prompts, fixed.candidates) == (found.norm, (5, 5), {})
    np.testing.assert_allclose(np.linalg.norm(found.unit), 1, rtol=1e-6)
    assert Ablation().layers(dataclasses.replace(DECODER, num_layers=10)) == tuple(range(1, 9))


def job(model, settings, folder):
    return Job(
        title="ablate",
        seed=0,
        preset=Preset(name="tiny", decoder=DECODER, stages={"ablate": settings}),
        model=model,
        examples={"contrast": ROWS[:15], "validation": ROWS[15:]}.__getitem__,
        rewards=lambda: None,
        prompt=lambda row: row["prompt"],
        folder=folder,
        identity={},
    )


def test_the_stage_says_what_it_found_and_does_the_same_again(tmp_path):
    stage, settings = Ablate(), Ablation(below=("plain", "seeming"))
    given = job(small_model(devices=2), settings, tmp_path)
    assert stage.steps(given.preset) == 0 and not stage.plan(given.preset, None, None)
    one, two = stage.train(given), stage.train(given)
    jax.tree.map(np.testing.assert_array_equal, one.params, two.params)
    found = json.loads((tmp_path / "direction.json").read_text())
    assert found["layer"] in (1, 2) and found["norm"] > 0
    assert (found["above"], found["below"]) == (5, 10)
    assert [row["layer"] for row in found["candidates"]] == [1, 2]
    assert set(found["candidates"][0]["similarity"]) == {
        "above/above",
        "above/below",
        "below/below",
    }
    wrong = dataclasses.replace(given.preset, stages={"ablate": Ablation(layer=4)})
    with pytest.raises(UserError, match="layers 1 to 3"):
        stage.steps(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"above": ()}, "legal: plain, seeming, toxic"),
        ({"below": ("odd",)}, "legal: plain, seeming, toxic"),
        ({"below": ("toxic",)}, "'toxic' stands in both groups"),
        ({"layer": 1, "candidates": (2,)}, "contradict"),
        ({"pooling": "first"}, "legal: last, mean"),
        ({"strength": float("nan")}, "finite"),
        ({"output": "gone"}, "legal: kept, ablated"),
    ],
)
def test_settings_that_contradict_each_other_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        Ablation(**changes)


def test_wrong_layers_rows_and_models_are_named():
    model = small_model()
    with pytest.raises(UserError, match="layer 4 does not exist"):
        find_direction(model, ROWS, Ablation(layer=4))
    with pytest.raises(UserError, match="no row of examples is of kind 'toxic'"):
        find_direction(model, [r for r in ROWS if r["kind"] != "toxic"], Ablation(layer=1))
    with pytest.raises(UserError, match=r"no row of validation is of kind 'toxic'.*no rows"):
        find_direction(model, ROWS, Ablation())
    with pytest.raises(UserError, match="row 0 of examples has kind None"):
        find_direction(model, [{"prompt": "a"}], Ablation(layer=1))
    alike = [{"kind": kind, "prompt": "the lamp"} for kind in ("toxic", "plain")]
    with pytest.raises(UserError, match="coincide behind layer 2"):
        find_direction(model, alike, Ablation(layer=2))
    broken = model.with_params(jax.tree.map(lambda leaf: leaf * np.float32(np.nan), model.params))
    with pytest.raises(UserError, match="not finite"):
        find_direction(broken, ROWS, Ablation(layer=1))
    with pytest.raises(UserError, match="merge the adapters first"):
        ablate(with_lora(model, LoraConfig(rank=2)), UNIT)
    with pytest.raises(UserError, match="post_norms"):
        ablate(small_model(post_norms=True), UNIT)
