"""The front door: a user's own task on a model folder, from open_model to a saved folder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax import answer, gdpo, imitate, open_model, optimize
from gdpo_jax.advantages import grpo
from gdpo_jax.errors import UserError
from gdpo_jax.models import restored, stored_lora
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import LoraConfig, layer_states, pooled
from gdpo_jax.recipe import sampler_config
from gdpo_jax.rollouts import RewardError
from gdpo_jax.training import (
    Evaluation,
    OptimizerConfig,
    PolicyOptimizationConfig,
    SFTConfig,
    make_mesh,
    read_metrics,
)
from tests.tiny_model import save_tiny_model
from tests.trees import norm

RECORDS = [{"prompt": f"List {n} films", "letter": "aeiou"[n % 5]} for n in range(16)]
CONFIG = PolicyOptimizationConfig(steps=2, prompts_per_step=8, num_samples=4, checkpoint_every=1)
LORA = LoraConfig(rank=2, alpha=4.0)
# One for all runs, so that what they compute is traced and compiled once.
ESTIMATOR = gdpo({"letters": 1.0, "brief": 0.2})
OBJECTIVE = ObjectiveConfig(kl="k3", kl_coef=0.1)
NEW_TOKENS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def letters(completions, records):
    return [c.text.count(r["letter"]) / 8 for c, r in zip(completions, records)]


def brief(completions, records):
    return [-float(len(c.text)) for c in completions]


def run(model, workdir, *, records=RECORDS, **changes):
    options = {
        "rewards": [letters, brief],
        "estimator": ESTIMATOR,
        "objective": OBJECTIVE,
        "optimizer": OptimizerConfig(learning_rate=1e-2),
        "config": CONFIG,
        "sampler": sampler_config(model, max_new_tokens=NEW_TOKENS),
    }
    return optimize(model, records, workdir=workdir, **(options | changes))


def one_device(folder, **options):
    return open_model(folder, make_mesh(None, jax.devices()[:1]), **options)


def as_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def likely_answers(model, state=None):
    """The most likely ones to four prompts, by the program that evaluations decode with."""
    sampler = sampler_config(model, max_new_tokens=NEW_TOKENS, temperature=0.0)
    prompts = [record["prompt"] for record in RECORDS[:4]]
    return answer(model, prompts, state=state, sampler=sampler)


def close(a, b):
    a, b = as_numpy(a), as_numpy(b)
    assert norm(jax.tree.map(np.subtract, a, b)) / norm(a) < 1e-5


def test_one_and_eight_devices_give_one_result_and_a_killed_run_the_same_bits(folder, tmp_path):
    model = open_model(folder)
    before = as_numpy(model.params)
    state = run(model, tmp_path / "eight")
    assert int(state.step) == 2
    # The model that was given is as it was.
    jax.tree.map(np.testing.assert_array_equal, as_numpy(model.params), before)
    close(run(one_device(folder), tmp_path / "one").params, state.params)
    run(model, tmp_path / "cut", config=dataclasses.replace(CONFIG, steps=1))
    again = run(open_model(folder), tmp_path / "cut")
    jax.tree.map(np.testing.assert_array_equal, as_numpy(again.params), as_numpy(state.params))
    rows = read_metrics(tmp_path / "cut" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1]
    assert {"reward/letters/mean", "reward/brief/mean"} <= set(rows[0])


def test_a_continuation_shares_records_start_sampler_optimizer_and_estimator(folder, tmp_path):
    model = one_device(folder)
    run(model, tmp_path / "run", config=dataclasses.replace(CONFIG, steps=1))
    other = [{**row, "letter": "x"} for row in RECORDS]
    nucleus = sampler_config(model, max_new_tokens=NEW_TOKENS, top_p=0.9)
    shifted = model.with_params(jax.tree.map(lambda x: x + 1, model.params))
    for changed, options, field in (
        (model, {"records": other}, "records"),
        (shifted, {}, "start"),
        (model, {"sampler": nucleus}, "sampler.top_p"),
        (model, {"optimizer": OptimizerConfig(learning_rate=1.0)}, "learning_rate"),
        (model, {"estimator": grpo({"letters": 1.0, "brief": 0.2})}, "estimator"),
    ):
        with pytest.raises(UserError, match=f"(?s)another configuration.*{field}") as caught:
            run(changed, tmp_path / "run", **options)
        assert "damaged" not in str(caught.value)


def test_adapters_are_trained_alone_restored_and_saved(folder, tmp_path):
    model = one_device(folder, lora=LORA)
    state = run(model, tmp_path / "run")
    assert stored_lora(tmp_path / "run") == LORA
    found = restored(model, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, as_numpy(found.params), as_numpy(state.params))
    model.save(tmp_path / "merged", state)
    saved = one_device(tmp_path / "merged")
    assert likely_answers(saved) == likely_answers(model, state)


def test_a_reference_policy_is_the_model_as_given(folder, tmp_path):
    model = one_device(folder)
    run(model, tmp_path)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[0]["kl/k3"] < 1e-9 < rows[1]["kl/k3"]


def test_held_out_records_are_evaluated_and_the_best_state_is_kept(folder, tmp_path):
    model = one_device(folder)
    held_out = Evaluation(
        records=RECORDS[:5], every=1, batch_size=4, metric="eval/reward/letters/mean"
    )
    run(model, tmp_path, evaluation=held_out)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert all(np.isfinite(row["eval/reward/letters/mean"]) for row in rows)
    restored(model, tmp_path, best=True)


def test_examples_are_imitated_to_their_end(folder, tmp_path):
    model = one_device(folder)
    rows = [{"prompt": record["prompt"], "completion": "Ardton"} for record in RECORDS[:8]]
    state = imitate(
        model,
        rows,
        workdir=tmp_path,
        optimizer=OptimizerConfig(learning_rate=3e-2),
        config=SFTConfig(steps=40, batch_size=8, log_every=10),
    )
    losses = [row["loss"] for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert losses[-1] < 0.1 * losses[0]
    assert likely_answers(model, state) == ["Ardton"] * 4


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"prompt": lambda r: r["question"]}, UserError, "record 0: .* field 'question'"),
        ({"prompt": "question"}, UserError, "record 0: the record has no field 'question'"),
        ({"records": []}, UserError, "there are no records"),
        ({"records": [{"prompt": "List " * 800}] * 8}, UserError, "8 of 8 records do not fit"),
        ({"rewards": []}, UserError, "no reward"),
        ({"rewards": [lambda completions, records: [0.0]]}, UserError, "name"),
        ({"estimator": gdpo({"other": 1.0})}, UserError, "other"),
    ],
)
def test_wrong_input_is_one_error_before_anything_compiles(
    folder, tmp_path, monkeypatch, changes, error, message
):
    from gdpo_jax.rollouts import engine

    def compiled(*arguments):
        raise AssertionError("a program was compiled")

    monkeypatch.setattr(engine, "sampler_program", compiled)
    with pytest.raises(error, match=message):
        run(one_device(folder), tmp_path / "run", **changes)


def test_a_reward_of_the_wrong_length_is_named(folder, tmp_path):
    def short(completions, records):
        return [0.0]

    with pytest.raises(RewardError, match="'short' returned 1 values for 32 completions"):
        run(one_device(folder), tmp_path, rewards=[letters, short], estimator=gdpo())
    # Nothing was learned, so that the mended rewards may use the same folder.
    run(one_device(folder), tmp_path, config=dataclasses.replace(CONFIG, steps=1))


def test_a_template_without_a_user_role_is_one_error(tmp_path):
    template = "{{ raise_exception('only system messages') }}"
    folder = save_tiny_model(tmp_path / "model", template=template)
    asked = [{"prompt": [{"role": "user", "content": "x"}]}] * 8
    with pytest.raises(UserError, match=r"record 0: the chat template .*only system messages"):
        run(one_device(folder), tmp_path / "run", records=asked)


def mean_state(policy, params, batch):
    """A loss of prompts alone: how large their states behind layer 1 are."""
    states = layer_states(policy, params, batch.prompts, batch.prompt_lengths, 1)
    return jnp.mean(jnp.square(pooled(states, batch.prompt_lengths, "mean")))


LABELLED = [{**record, "label": number % 4 == 0} for number, record in enumerate(RECORDS)]
ALONE = {
    "completion": None,
    "loss": mean_state,
    "label": lambda record: int(record["label"]),
    "per_label": {0: 6, 1: 2},
    "mask": {"layers": 1},
    "config": SFTConfig(steps=2, batch_size=8),
    "optimizer": OptimizerConfig(learning_rate=1e-2, weight_decay=0.1),
}


def test_a_loss_of_prompts_trains_what_the_mask_says(folder, tmp_path):
    model = one_device(folder)
    state = imitate(model, LABELLED, workdir=tmp_path / "run", **ALONE)
    assert jax.tree.structure(state.params) == jax.tree.structure(model.params)
    for name, before in model.params["layers"].items():
        pairs = zip(jax.tree.leaves(before), jax.tree.leaves(state.params["layers"][name]))
        for old, new in pairs:
            assert (old[0] != new[0]).any(), name
            np.testing.assert_array_equal(old[1], new[1])
    np.testing.assert_array_equal(state.params["embedding"], model.params["embedding"])
    again = imitate(model, LABELLED, workdir=tmp_path / "run", **ALONE)
    jax.tree.map(np.testing.assert_array_equal, again.params, state.params)
    with pytest.raises(UserError, match=r"a part of the parameters \(layers\)"):
        stored_lora(tmp_path / "run")
    with pytest.raises(UserError, match="per_label"):
        imitate(model, LABELLED, workdir=tmp_path / "run", **ALONE | {"per_label": {0: 4, 1: 4}})


@pytest.mark.parametrize(("together", "widths"), [(1, {64}), (4, {8, 64})])
def test_records_sorted_together_are_padded_less(folder, tmp_path, together, widths):
    seen = set()

    def seen_width(policy, params, batch):
        seen.add(batch.prompts.shape[1])
        return mean_state(policy, params, batch)

    rows = [{"prompt": "a" * (40 if n % 4 == 0 else 3)} for n in range(32)]
    config = SFTConfig(steps=4, batch_size=8, prompt_buckets=(8, 64), sort_batches=together)
    options = ALONE | {"label": None, "per_label": None, "loss": seen_width, "config": config}
    imitate(one_device(folder), rows, workdir=tmp_path / "run", **options)
    assert seen == widths


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": None}, "completion=None leaves nothing to imitate"),
        ({"label": None}, "give label= as well"),
        ({"per_label": {0: 6}}, "has 6 records together, and batch_size is 8"),
        ({"per_label": {0: 6, 3: 2}}, "no record is of class 3"),
        ({"config": SFTConfig(steps=2, batch_size=8, sort_batches=2)}, "give one of them"),
        ({"label": "letters"}, "no field 'letters' for the label"),
        ({"mask": {"layers": 3}}, "legal: 1 to 2"),
    ],
)
def test_what_a_loss_cannot_be_given_is_named(folder, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        imitate(one_device(folder), LABELLED, workdir=tmp_path / "run", **ALONE | changes)
    assert not (tmp_path / "run").exists()
