"""A policy behind the same protocol as an endpoint."""

import contextlib

import jax
import pytest

from experiments.common.chats.cache import cached, open_store
from experiments.common.chats.model import Limits
from experiments.common.chats.policy_model import policy_model
from gdpo_jax.answers import complete, sampler_config
from gdpo_jax.errors import UserError
from gdpo_jax.models import open_model
from gdpo_jax.training import make_mesh
from tests.tiny_model import TEMPLATE, save_tiny_model

STRICT = "{% if messages[0].role != 'user' %}{{ raise_exception('no user') }}{% endif %}" + TEMPLATE
TALKS = [
    [{"role": "user", "content": "Ardton"}],
    [{"role": "user", "content": "List"}, {"role": "assistant", "content": "10"}],
]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("model"), template=STRICT, layers=1)
    return open_model(folder, make_mesh(None, jax.devices()[:1]))


def test_answers_are_those_of_the_policy(policy, tmp_path):
    limits = Limits(max_new_tokens=6)
    model = policy_model(policy, name="tiny")
    sampler = sampler_config(policy, max_new_tokens=6, temperature=0.0)
    drawn = complete(policy, TALKS, sampler=sampler)
    plain = [completion.text for completion in drawn]
    seen = {}
    answers = model.answer(TALKS, limits, on_answer=lambda n, given: seen.update({n: given}))
    assert [given.text for given in answers] == plain
    assert seen == dict(enumerate(answers))
    text = "<user>Ardton<answer>"
    assert answers[0].prompt_tokens == len(policy.tokenizer.encode(text))
    for given, completion in zip(answers, drawn, strict=True):
        assert given.completion_tokens == len(completion.token_ids)
        assert (given.finished, given.cost) == (completion.finished, 0.0)
    # Cut before the first of the stop texts, which are searched in the text.
    stop = (plain[0][3:], plain[0][1:3])
    [cut] = model.answer(TALKS[:1], Limits(max_new_tokens=6, stop=stop))
    assert (cut.text, cut.finished) == (plain[0][: plain[0].find(plain[0][1:3])], True)
    with contextlib.closing(open_store(tmp_path / "answers")) as store:
        kept = cached(model, store)
        assert kept.answer(TALKS, limits) == answers
        assert all(given.cached for given in kept.answer(TALKS, limits))


def test_draws_follow_seed_and_sample(policy):
    model = policy_model(policy, name="tiny", sampling={"top_p": 0.9})

    def draw(**options):
        return model.answer(TALKS, Limits(max_new_tokens=6, temperature=1.0, **options))

    first = draw()
    assert first == draw(seed=0)
    assert first not in (draw(sample=1), draw(seed=1))


def test_refused_conversations_are_named(policy):
    model = policy_model(policy, name="tiny")
    with pytest.raises(UserError, match=r"turn 4: .*no user"):
        model.answer([[{"role": "system", "content": "x"}]], Limits(), names=["turn 4"])
    with pytest.raises(UserError, match="conversation 1, message 0, field 'role'"):
        model.answer([TALKS[0], [{"role": "x", "content": "x"}]], Limits())


def test_a_failure_is_one_conversations(policy):
    model = policy_model(policy, name="tiny")
    long = [{"role": "user", "content": "Ardton " * policy.policy.config.max_positions}]
    system = [{"role": "system", "content": "x"}]
    failures = {}
    answers = model.answer(
        [long, TALKS[0], system],
        Limits(max_new_tokens=4),
        on_failure=lambda n, error: failures.update({n: str(error)}),
    )
    assert [answer is None for answer in answers] == [True, False, True]
    assert "conversation 0: the prompt has" in failures[0]
    assert "no user" in failures[2]
    assert answers[1] == model.answer(TALKS[:1], Limits(max_new_tokens=4))[0]
    with pytest.raises(UserError, match="conversation 0: the prompt has"):
        model.answer([long], Limits(max_new_tokens=4))


def test_a_growing_talk_comes_to_few_widths(policy, monkeypatch):
    seen = set()

    def spied(model, prompts, *, prompt_buckets, **options):
        seen.update(prompt_buckets)
        return complete(model, prompts, prompt_buckets=prompt_buckets, **options)

    monkeypatch.setattr("experiments.common.chats.policy_model.complete", spied)
    model = policy_model(policy, name="tiny")
    for turns in range(1, 8):
        [answer] = model.answer(
            [[{"role": "user", "content": "Ardton " * turns}]], Limits(max_new_tokens=1)
        )
        assert answer.prompt_tokens <= max(seen)
    assert seen == {64}
