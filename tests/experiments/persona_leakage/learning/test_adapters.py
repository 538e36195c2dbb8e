"""Adapters of users trained together are those trained alone, and nobody's data reach another's."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common.chats.log_probs import answer_log_probs
from experiments.common.runs.arms import ModelReply
from experiments.persona_leakage.learning.adapted import (
    Adapted,
    adapted_users,
    bare,
    of_user,
    personal,
)
from experiments.persona_leakage.learning.adapter_folders import adapter_folder, forget
from experiments.persona_leakage.learning.adapters import PerUserAdapters, adapt
from experiments.persona_leakage.learning.preferences import preferences
from experiments.persona_leakage.learning.stacking import (
    each_user_optimizer,
    user_batches,
    user_seed,
)
from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    decoder_policy,
    load_adapters,
)
from gdpo_jax.prompts import completion_encoder, encode_prompt
from gdpo_jax.recipe import imitate, with_lora
from gdpo_jax.training import OptimizerConfig
from tests.experiments.persona_leakage.adapter_cases import (
    ALL,
    DECODER,
    NAMES,
    ROWS,
    SETTINGS,
    TOKENIZER,
    adapters,
    flat,
    job_of,
    same,
    small_model,
)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    return adapt(small_model(), ROWS, SETTINGS, folder=folder), folder


def test_an_adapter_of_the_stack_is_the_one_that_imitation_trains_alone(four, tmp_path):
    """The library's own LoRA on the same start and batches, which knows nothing of stacks."""
    model = small_model()
    seed = user_seed(0, "bob")
    start = with_lora(model, SETTINGS.lora, jax.random.key(seed))
    state = imitate(
        start,
        ROWS["bob"],
        optimizer=SETTINGS.optimizer,
        config=SETTINGS.run,
        seed=seed,
        workdir=tmp_path / "library",
    )
    expected, found = flat(state.params["adapters"]), adapters(four[0])["bob"]
    moved = flat(start.params["adapters"])
    for name, leaf in expected.items():
        assert np.abs(leaf - moved[name]).max() > 0.02, name
        np.testing.assert_allclose(found[name], leaf, rtol=1e-4, atol=1e-5, err_msg=name)
    rows = list(map(json.loads, (four[1] / "metrics.jsonl").read_text().splitlines()))
    assert rows[-1]["loss"] < rows[0]["loss"] <= rows[0]["worst_user_loss"]


def close(one, other):
    return all(np.allclose(one[name], other[name], rtol=1e-4, atol=1e-5) for name in one)


def test_with_another_partner_and_place_an_adapter_is_the_same(four, tmp_path):
    pair = {user: ROWS[user] for user in ("cy", "bob")}
    found = adapters(adapt(small_model(), pair, SETTINGS, folder=tmp_path))
    assert found.keys() == {"bob", "cy"}
    assert all(close(own, adapters(four[0])[user]) for user, own in found.items())


@pytest.mark.slow
def test_on_two_devices_adapters_are_the_same_up_to_rounding(four, tmp_path):
    two = adapters(adapt(small_model(2), ROWS, SETTINGS, folder=tmp_path))
    assert all(close(own, two[user]) for user, own in adapters(four[0]).items())


def test_no_data_of_another_user_change_an_adapter_by_a_bit(four, tmp_path):
    others = [{"prompt": "the clock in the lamp", "completion": "old old old"}] * 7
    pair = {"ann": others, "bob": ROWS["bob"]}
    changed = adapters(adapt(small_model(), pair, SETTINGS, folder=tmp_path))
    before = adapters(four[0])
    assert not same(before["ann"], changed["ann"])
    assert same(before["bob"], changed["bob"])
    # Nor does the base, which is the given arrays themselves.
    assert four[0].params["base"] is small_model().params


def test_changed_users_are_trained_again_and_the_others_are_kept(four, tmp_path):
    model = small_model()
    shutil.copytree(four[1], tmp_path, dirs_exist_ok=True)
    kept = adapter_folder(tmp_path, "bob") / "user.json"
    written = kept.stat().st_mtime_ns
    fewer = {"ann": ROWS["ann"][:2], "bob": ROWS["bob"], "cy": ROWS["cy"][1:]}
    again = adapt(model, fewer, SETTINGS, folder=tmp_path)
    assert adapted_users(again) == ("ann", "bob", "cy")
    before, after = adapters(four[0]), adapters(again)
    assert same(before["bob"], after["bob"]) and kept.stat().st_mtime_ns == written
    assert not same(before["ann"], after["ann"]) and not same(before["cy"], after["cy"])
    # Who has no rows any more has no folder any more.
    assert not adapter_folder(tmp_path, "dan").exists()
    assert not (tmp_path / "training").exists()


class Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_from_its_checkpoint(four, tmp_path, monkeypatch):
    import experiments.persona_leakage.learning.adapters as module

    batches, seen = user_batches, []

    def failing(*given, **options):
        inner = batches(*given, **options)
        read = type(inner).__next__

        class Iterator(type(inner)):
            def __next__(self):
                seen.append(1)
                if len(seen) == 6 + 5:
                    raise Stopped
                return read(self)

        inner.__class__ = Iterator
        return inner

    monkeypatch.setattr(module, "user_batches", failing)
    with pytest.raises(Stopped):
        adapt(small_model(), ROWS, SETTINGS, folder=tmp_path)
    [work] = (tmp_path / "training").iterdir()
    assert {path.name for path in (work / "checkpoints").iterdir()} == {"3", "4"}
    assert not (tmp_path / "checkpoints").exists()
    assert adapter_folder(tmp_path, "bob").is_dir() and not adapter_folder(tmp_path, "cy").exists()
    resumed = adapt(small_model(), ROWS, SETTINGS, folder=tmp_path)
    # Of the second pair four batches had been learnt, and two were left.
    assert len(seen) == 6 + 5 + 2
    assert all(same(adapters(four[0])[user], adapters(resumed)[user]) for user in NAMES)
    assert (tmp_path / "checkpoints" / "6").is_dir() and not (tmp_path / "training").exists()


def test_deleting_a_user_deletes_his_adapter_and_nothing_else(four, tmp_path):
    shutil.copytree(four[1], tmp_path, dirs_exist_ok=True)
    kept = {u: (adapter_folder(tmp_path, u) / "adapter_model.safetensors") for u in NAMES}
    before = {user: path.read_bytes() for user, path in kept.items()}
    own, lora = load_adapters(adapter_folder(tmp_path, "cy"), DECODER)
    assert same(flat(own), adapters(four[0])["cy"]) and lora.rank == 2
    assert forget(tmp_path, "bob") and not forget(tmp_path, "bob")
    left = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"bob" in content or before["bob"] == content for content in left)
    assert not (tmp_path / "checkpoints").exists()
    rest = [user for user in NAMES if user != "bob"]
    assert all(kept[user].read_bytes() == before[user] for user in rest)
    found = adapt(small_model(), {u: ROWS[u] for u in rest}, SETTINGS, folder=tmp_path)
    assert adapted_users(found) == tuple(rest) and (tmp_path / "checkpoints" / "6").is_dir()


def test_each_record_is_answered_by_its_own_users_adapter_and_strangers_by_the_base(four):
    model, calls = four[0], []

    def answers(of, prompts):
        """Whose adapter is at work, and on what."""
        calls.append(len(prompts))
        own = of.params.get("adapters")
        [user] = [u for u in NAMES if own is model.params["users"][u]] or ["base"]
        assert of.params.keys() <= {"base", "adapters"}
        return [f"{user}: {TOKENIZER.decode(prompt)}" for prompt in prompts]

    reply = ModelReply(model, lambda prompt: encode_prompt(TOKENIZER, prompt), answers)
    asked = ["where is the lamp?", "the attic", "where is the clock in the garden?"]
    users = ["bob", None, "cy", "bob", "eve", ""]
    records = [{"prompt": asked[n % 3], "user": user} for n, user in enumerate(users)]
    records.append({"prompt": asked[0]})
    texts = Adapted().answer(reply, records)
    at_work = ["bob", "base", "cy", "bob", "base", "base", "base"]
    assert texts == [f"{user}: {r['prompt']}" for user, r in zip(at_work, records)]
    # Under both adapters as many prompts, the longest one among them.
    assert calls == [3, 4, 3]
    other = [
        {**record, "user": "bob", "recognised": user}
        for record, user in zip(records, ("bob", "cy", ""))
    ]
    found = Adapted(verified=True).answer(reply, other)
    assert found == [f"{user}: {text}" for user, text in zip(("bob", "base", "base"), asked)]
    assert Adapted().answer(reply, []) == []
    assert model.merged() is model


def test_own_adapter_and_base_are_those_of_the_library(four):
    """In log-probs, and in the parameters that the sampler decodes with."""
    model, plain = four[0], small_model()
    lora = with_lora(plain, SETTINGS.lora)
    encode = completion_encoder(TOKENIZER, "prompt", "completion")
    prompts, texts = zip(*map(encode, (ROWS["ann"][0], ROWS["ann"][1], ROWS["cy"][1])))

    def log_probs(of):
        return answer_log_probs(of, prompts, [[text] for text in texts], batch_size=3)[:, 0]

    def library(user):
        return lora.with_params({**lora.params, "adapters": model.params["users"][user]})

    users = ["ann", "ann", "eve"]
    own, shared = preferences(model, users, prompts, texts, batch_size=3)
    # Fresh adapters change nothing.
    base, ann = log_probs(lora), log_probs(library("ann"))
    np.testing.assert_allclose(shared, base, rtol=1e-5)
    np.testing.assert_allclose(own, [ann[0], ann[1], base[2]], rtol=1e-5)
    assert (own - shared)[:2].min() > 0.5
    assert [len(part) for part in preferences(model, [], [], [], batch_size=3)] == [0, 0]
    for ours, other in ((bare(model), plain), (of_user(model, "cy"), library("cy"))):
        found = ours.policy.decoding_params(ours.params, 32)
        expected = other.policy.decoding_params(other.params, 32)
        assert same(flat(found), flat(expected))


def test_each_users_gradient_is_clipped_by_its_own_norm():
    config = OptimizerConfig(learning_rate=1.0, max_grad_norm=1.0, b1=0.0, b2=0.0, eps=1.0)
    optimizer = each_user_optimizer(config)
    params = {"a": jnp.zeros((2, 1)), "b": jnp.zeros((2, 1))}
    grads = {"a": jnp.array([[3.0], [0.3]]), "b": jnp.array([[4.0], [0.4]])}
    plain = each_user_optimizer(dataclasses.replace(config, max_grad_norm=None))
    # As in a step: optax counts in integers.
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        unclipped, _ = plain.update(grads, plain.init(params), params)
    # Clipped to (0.6, 0.8) and left at (0.3, 0.4); then g / (|g| + 1).
    np.testing.assert_allclose(updates["a"][:, 0], [-0.6 / 1.6, -0.3 / 1.3], rtol=1e-5)
    np.testing.assert_allclose(updates["b"][:, 0], [-0.8 / 1.8, -0.4 / 1.4], rtol=1e-5)
    np.testing.assert_allclose(unclipped["a"][:, 0], [-0.75, -0.3 / 1.3], rtol=1e-5)
    assert optimizer.update.config == config


def test_a_users_batches_are_his_own_whoever_else_there_is():
    rows = {user: [f"{user}{n}" for n in range(4)] for user in NAMES}
    together = user_batches(rows, each=2, seed=3)
    alone = user_batches({"cy": rows["cy"]}, each=2, seed=3)
    for _ in range(5):
        batch = next(together)
        assert [row[:-1] for row in batch] == [user for user in NAMES for _ in range(2)]
        assert batch[4:6] == next(alone)
    halves = [user_batches(rows, each=2, seed=3, share=(n, 2)) for n in range(2)]
    assert next(halves[0]) + next(halves[1]) == next(user_batches(rows, each=2, seed=3))
    with pytest.raises(UserError, match="user 'cy' has 4 rows"):
        user_batches({"cy": rows["cy"]}, each=5, seed=3)


def test_the_stage_trains_those_above_gamma_and_plans(four, tmp_path):
    stage, strong = PerUserAdapters(), PerUserAdapters(strengths="strengths")
    settings = dataclasses.replace(SETTINGS, gamma=0.5)
    strengths = [{"user": u, "strength": s} for u, s in zip(NAMES, (0.5, 0.1, 0.7, 0.9))]
    job = job_of(tmp_path, settings, personal=ALL, strengths=strengths)
    assert strong.steps(job.preset) == 6
    trained = strong.train(job)
    assert adapted_users(trained) == ("cy", "dan")
    # The pair that was one without gamma as well.
    assert same(adapters(trained)["dan"], adapters(four[0])["dan"])
    [planned] = strong.plan(job.preset, decoder_policy(DECODER), job.model.mesh)
    assert planned.shapes.startswith("2 users with 2 rows each")
    own = sum(leaf.size for leaf in jax.tree.leaves(trained.params["users"]["cy"]))
    # Adam's two numbers of each of two users' adapters; counts are a few bytes.
    assert 0 <= planned.memory.optimizer - 2 * 2 * 4 * own < 64
    with pytest.raises(UserError, match="strengths=, or neither"):
        stage.steps(job.preset)
    job = job_of(tmp_path / "none", settings, personal=ALL, strengths=strengths[1:])
    with pytest.raises(UserError, match="no strength of user 'ann'"):
        strong.train(job)
    nobody = job_of(tmp_path / "x", SETTINGS, personal=[{"prompt": "a", "completion": "b"}])
    with pytest.raises(UserError, match="row 0 to learn from names no user"):
        stage.train(nobody)


def test_what_cannot_be_is_named(tmp_path):
    run = SETTINGS.run
    for changes, message in (
        ({"run": dataclasses.replace(run, prompt_buckets=(8, 24))}, "prompt_buckets .* one width"),
        ({"run": dataclasses.replace(run, completion_buckets=None)}, "completion_buckets"),
        ({"run": dataclasses.replace(run, accumulation_steps=4)}, "do not divide into 4"),
        ({"together": 0}, "together must be at least 1"),
        ({"gamma": float("nan")}, "gamma must be 0 or more"),
        ({"gamma": -0.5}, "gamma must be 0 or more"),
    ):
        with pytest.raises(UserError, match=message):
            dataclasses.replace(SETTINGS, **changes)
    model = small_model()
    long = [*ROWS["ann"], {"prompt": "the clock " * 20, "completion": "x"}]
    with pytest.raises(UserError, match="row 4 of user 'ann' has a prompt of"):
        adapt(model, {"ann": long}, SETTINGS, folder=tmp_path)
    with pytest.raises(UserError, match="row 0 of user 'ann'"):
        adapt(model, {"ann": [{"prompt": "x"}] * 2}, SETTINGS, folder=tmp_path)
    with pytest.raises(UserError, match="user 'ann' has 1 rows"):
        adapt(model, {"ann": ROWS["ann"][:1]}, SETTINGS, folder=tmp_path)
    with pytest.raises(UserError, match="no adapters of users"):
        adapted_users(model)
    with pytest.raises(UserError, match="merge them first"):
        personal(with_lora(model, SETTINGS.lora), {}, SETTINGS.lora)
    with pytest.raises(UserError, match="'eve' has no adapter"):
        of_user(personal(model, {}, SETTINGS.lora), "eve")
