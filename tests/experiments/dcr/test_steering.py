"""Refusal vectors with the sign that each prompt gets, on a model in which the direction is known.

Its layers write nothing, so that a state is the embedding of its token: prompts are harmful by
their last one, and the first token of the refusal lies along the same direction.
"""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments.common.judges.refusals.openings import refusal_log_prob
from experiments.common.runs.arms import ModelReply
from experiments.common.runs.settings import Preset
from experiments.common.runs.stages import Job
from experiments.dcr.refusal_vectors import Steering, find_vectors
from experiments.dcr.steering import Steer, Steered, by_harm, harmfulness, steered
from gdpo_jax.answers import answer, sampler_config
from gdpo_jax.errors import UserError
from gdpo_jax.policies import LoraConfig, with_sign
from gdpo_jax.prompts import encode_prompt
from gdpo_jax.recipe import with_lora
from tests.experiments.dcr.small_model import DECODER, ROWS, TOKENIZER, small_model

HARMFUL, BENIGN, OTHER = 10, 11, 12
REFUSAL = TOKENIZER.encode("kill")[0]
EXAMPLES = [
    {"kind": kind, "prompt": [first, last]}
    for kind, last in (("toxic", HARMFUL), ("plain", BENIGN))
    for first in (20, 21, 22)
]
SETTINGS = Steering(layers=(2,), affix="")


def planted(**options):
    """Embeddings: e0 + e1 of harmful last tokens, e1 - e0 of benign ones, e0 of the refusal."""
    model = small_model(**options)
    table = np.zeros(model.params["embedding"].shape, np.float32)
    table[:, 2] = 0.5
    table[HARMFUL, :2], table[BENIGN, :2], table[OTHER, :2] = (1, 1), (-1, 1), (0, 1)
    table[REFUSAL, 0] = 1
    layers = {
        name: leaf * np.float32(0) if name in ("out", "down") else leaf
        for name, leaf in model.params["layers"].items()
    }
    place = jax.jit(lambda tree: tree, out_shardings=model.params["embedding"].sharding)
    return model.with_params({**model.params, "embedding": place(table), "layers": layers})


def test_vectors_and_the_decision_by_hand():
    found = find_vectors(planted(), EXAMPLES, dataclasses.replace(SETTINGS, strength=0.5))
    # The means are (1, 1) and (-1, 1) in the first two places: they differ by (2, 0).
    expected = np.zeros((3, 8))
    expected[1, 0] = 1.0
    np.testing.assert_allclose(found.added, expected, atol=1e-6)
    assert found.norms == {2: pytest.approx(2.0)} and found.layers == (2, 3)
    # Cosines of (1, 1, 1/2): 1 with its own mean, 1 / 9 with the other.
    assert found.threshold == pytest.approx(0.0, abs=1e-6)
    assert (found.accuracy, found.prompts) == (1.0, (3, 3))
    one = find_vectors(planted(), EXAMPLES, dataclasses.replace(SETTINGS, unit="one", strength=3.5))
    np.testing.assert_allclose(one.added, 3.5 * expected, atol=1e-5)
    alone = dataclasses.replace(SETTINGS, compared="harmful", threshold=0.5)
    model = steered(planted(), find_vectors(planted(), EXAMPLES, alone))
    # (0, 1, 1/2) has a cosine of (1 + 1/4) / sqrt(9/4 * 5/4) with (1, 1, 1/2).
    scores = harmfulness(model, [[20, HARMFUL], [20, BENIGN], [20, OTHER]])
    np.testing.assert_allclose(scores + 0.5, [1, 1 / 9, 1.25 / np.sqrt(45 / 16)], rtol=1e-5)


@pytest.mark.parametrize("devices", [1, 8])
def test_harmful_prompts_are_refused_more_and_others_less(devices):
    plain = planted(devices=devices, fsdp=min(devices, 2))
    model = steered(plain, find_vectors(plain, EXAMPLES, SETTINGS))
    prompts = [[23, HARMFUL], [23, BENIGN], [24, HARMFUL]]

    def refusal(of, own):
        return refusal_log_prob(of, own, ["kill"]).tolist()

    before = refusal(plain, prompts)
    found = by_harm(model, prompts, lambda m, places: refusal(m, [prompts[p] for p in places]))
    assert found[0] > before[0] + 0.1 and found[2] > before[2] + 0.1 and found[1] < before[1] - 0.1
    # Each value is that of its own prompt and sign.
    toward, away = (
        refusal(model.with_params(with_sign(model.params, s)), prompts) for s in (1, -1)
    )
    np.testing.assert_allclose(found, [toward[0], away[1], toward[2]], rtol=1e-5)
    # Without a sign the model is what it was.
    assert refusal(model, prompts) == before


def test_a_change_of_states_behind_an_affix_decides():
    """Behind the affix all states are the same here, so that prompts differ as before it."""
    settings = dataclasses.replace(SETTINGS, affix="kill")
    model = steered(planted(), find_vectors(planted(), EXAMPLES, settings))
    assert model.params["decision"]["affix"].tolist() == TOKENIZER.encode("kill")
    assert (harmfulness(model, [[20, HARMFUL], [20, BENIGN]]) >= 0).tolist() == [True, False]


def test_each_prompt_is_answered_with_its_sign():
    model = small_model(devices=8, fsdp=2)
    found = find_vectors(model, ROWS, Steering(layers=(1, 2), strength=20.0))
    given = steered(model, found)
    prompts = [row["prompt"] for row in ROWS[:6]]

    def answers(of, own):
        return answer(of, own, sampler=sampler_config(of, max_new_tokens=4, temperature=0.0))

    reply = ModelReply(given, lambda prompt: encode_prompt(TOKENIZER, prompt), answers)
    texts = Steered().answer(reply, [{"prompt": prompt} for prompt in prompts])
    toward, away = (
        answers(given.with_params(with_sign(given.params, s)), prompts) for s in (1, -1)
    )
    harmful = harmfulness(given, prompts) >= 0
    assert texts == [a if own else b for own, a, b in zip(harmful, toward, away)]
    assert toward != away
    assert reply(prompts) == answers(model, prompts)
    assert Steered().answer(reply, []) == []


def test_the_stage_says_what_it_found_and_does_the_same_again(tmp_path):
    preset = Preset(name="tiny", decoder=DECODER, stages={"steer": Steering(layers=(1, 3))})
    job = Job(
        title="steer",
        seed=0,
        preset=preset,
        model=small_model(devices=2),
        examples={"contrast": ROWS}.__getitem__,
        rewards=lambda: None,
        prompt=lambda row: row["prompt"],
        folder=tmp_path,
        identity={},
    )
    stage = Steer()
    assert stage.steps(preset) == 0 and not stage.plan(preset, None, None)
    one, two = stage.train(job), stage.train(job)
    jax.tree.map(np.testing.assert_array_equal, one.params, two.params)
    found = json.loads((tmp_path / "steering.json").read_text())
    assert [row["layer"] for row in found["norms"]] == [1, 3]
    assert found["decision_layers"] == [1, 2, 3]
    assert 0.5 <= found["accuracy"] <= 1 and np.isfinite(found["threshold"])
    assert (found["harmful"], found["benign"]) == (8, 8)
    with pytest.raises(UserError, match="not those of the decoder"):
        one.save(tmp_path / "model")
    wrong = dataclasses.replace(preset, stages={"steer": Steering(decision_layers=(4,))})
    with pytest.raises(UserError, match="layers 1 to 3"):
        stage.steps(wrong)


def test_the_middle_layers_are_those_of_the_published_code():
    def layers(count):
        return Steering().steered_layers(dataclasses.replace(DECODER, num_layers=count))

    assert layers(32) == tuple(range(11, 21))
    assert (layers(1), layers(2), layers(3), layers(4)) == ((1,), (1,), (1,), (2,))
    assert Steering().deciding_layers(dataclasses.replace(DECODER, num_layers=6)) == (2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"harmful": ("toxic", "plain")}, "'plain' stands in both groups"),
        ({"strength": float("inf")}, "strength must be a finite number"),
        ({"threshold": float("nan")}, "threshold must be a finite number"),
        ({"unit": "two"}, "legal: difference, one"),
        ({"compared": "none"}, "legal: harmful, both"),
    ],
)
def test_settings_that_contradict_each_other_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        Steering(**changes)


def test_wrong_layers_rows_and_models_are_named():
    model = small_model()
    with pytest.raises(UserError, match="layer 4 does not exist"):
        find_vectors(model, ROWS, Steering(layers=(2, 4)))
    with pytest.raises(UserError, match="name a layer twice"):
        find_vectors(model, ROWS, Steering(layers=(2, 2)))
    with pytest.raises(UserError, match="no row of examples is of kind 'plain'"):
        find_vectors(model, [r for r in ROWS if r["kind"] != "plain"], Steering())
    alike = [{"kind": kind, "prompt": "the lamp"} for kind in ("toxic", "plain")]
    with pytest.raises(UserError, match="coincide behind layer 1"):
        find_vectors(model, alike, Steering())
    with pytest.raises(UserError, match="no refusal vectors"):
        harmfulness(model, ["the lamp"])
    with pytest.raises(UserError, match="merge the adapters first"):
        steered(with_lora(model, LoraConfig(rank=2)), find_vectors(model, ROWS, Steering()))
