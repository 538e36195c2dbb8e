"""Answers: one a prompt, in order, whatever the batches and devices."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from gdpo_jax.answers import answer, sampler_config
from gdpo_jax.errors import UserError
from gdpo_jax.models import open_model
from gdpo_jax.training import make_mesh
from tests.tiny_model import save_tiny_model

PROMPTS = ["List", "List 10 films, newest first", [{"role": "user", "content": "Ardton"}], [40, 41]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"), layers=1)


def short(model, **options):
    return sampler_config(model, max_new_tokens=6, temperature=0.0, **options)


def test_batches_and_devices_do_not_change_answers(folder):
    alone = open_model(folder, make_mesh(None, jax.devices()[:1]))
    expected = [answer(alone, [prompt], sampler=short(alone))[0] for prompt in PROMPTS]
    assert len(set(expected)) > 1
    spread = open_model(folder)
    # Three do not divide over eight devices; the batch is rounded up to them.
    assert answer(spread, PROMPTS, sampler=short(spread), batch_size=3) == expected
    assert answer(spread, []) == []


def test_sampled_answers_need_a_key_and_repeat_with_it(folder):
    model = open_model(folder)
    sampler = dataclasses.replace(short(model), temperature=1.0)
    with pytest.raises(UserError, match="give key="):
        answer(model, PROMPTS, sampler=sampler)
    first, again, other = (
        answer(model, PROMPTS, sampler=sampler, key=jax.random.key(seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_prompts_need_room_and_answers_need_finite_logits(folder):
    model = open_model(folder)
    long = sampler_config(model, max_new_tokens=1000, temperature=0.0)
    with pytest.raises(UserError, match=r"the longest prompt has \d+ tokens, .* at most 24"):
        answer(model, ["List 10 films, newest first, as Title (Year)." * 3], sampler=long)
    with pytest.raises(UserError, match="leaves no positions for a prompt"):
        answer(model, ["List"], sampler=dataclasses.replace(long, max_new_tokens=1024))
    broken = model.with_params(jax.tree.map(lambda x: x * jnp.nan, model.params))
    with pytest.raises(UserError, match=r"log-probs of .* are not finite"):
        answer(broken, ["List"], sampler=short(model))
