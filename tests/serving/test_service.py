"""Requests that wait are drawn together and get what they would get alone; parameters wait too."""

from concurrent.futures import CancelledError

import jax
import numpy as np
import pytest

from gdpo_jax.answers import sampler_config
from gdpo_jax.errors import UserError
from gdpo_jax.models import with_lora
from gdpo_jax.policies import LoraConfig
from gdpo_jax.serving import service as service_module
from gdpo_jax.serving.drawing import Job, call_of, seed_of
from gdpo_jax.serving.fields import BadRequest
from gdpo_jax.serving.parameters import Update, read_update, write_parameters
from gdpo_jax.serving.service import Service


def job(model, text="List", *, seed=0, tokens=8, **options):
    sampler = sampler_config(model, max_new_tokens=tokens, **options)
    return Job([model.tokenizer.encode(text)], 1, seed, sampler)


def service_of(model, most_waiting=10):
    return Service(model, bucket=32, rows=16, most_waiting=most_waiting)


@pytest.fixture
def draws(monkeypatch):
    """The numbers of jobs that were drawn together."""
    found = []

    def counted(model, jobs, call, **sizes):
        found.append(len(jobs))
        return own(model, jobs, call, **sizes)

    own = service_module.draw
    monkeypatch.setattr(service_module, "draw", counted)
    return found


def test_what_waits_is_drawn_together_and_is_what_it_is_alone(model, draws):
    jobs = [job(model, "List" * (n + 1), seed=n) for n in range(4)]
    with service_of(model) as service:
        alone = [service.draw(one).result() for one in jobs]
    assert draws == [1] * 4
    waiting = service_of(model)
    futures = [waiting.draw(one) for one in jobs[:3]]
    futures.insert(2, waiting.draw(job(model, temperature=0.5)))
    futures.append(waiting.draw(jobs[3]))
    with waiting:
        found = [future.result() for future in futures]
    assert draws[4:] == [4, 1]
    for one, other in zip([found[0], found[1], found[3], found[4]], alone):
        [[own]], [[drawn]] = one.completions, other.completions
        assert own.token_ids == drawn.token_ids
        np.testing.assert_allclose(own.log_probs, drawn.log_probs, atol=1e-5)


def send(service, folder, model, version):
    path = folder / f"{version}.safetensors"
    lora = write_parameters(path, model.policy, model.params)
    return service.replace(path, Update(version, lora))


def moved(model, amount):
    """The model with other adapters."""
    adapters = jax.tree.map(lambda leaf: leaf + amount, model.params["adapters"])
    return model.with_params({**model.params, "adapters": adapters})


def test_new_parameters_are_for_those_behind_them_alone(model, draws, tmp_path):
    other = moved(with_lora(model, LoraConfig(rank=2, alpha=8.0)), 0.1)
    service = service_of(model)
    first = service.draw(job(model))
    sent = send(service, tmp_path, other, 3)
    second = service.draw(job(model))
    with service:
        assert (first.result().version, sent.result(), second.result().version) == (0, 3, 3)
        assert draws == [1, 1]
        assert first.result().completions != second.result().completions
        jax.tree.map(np.testing.assert_array_equal, service.serving.model.params, other.params)
        # Older ones, and ones that do not fit, change nothing.
        for version in (2, 3):
            with pytest.raises(BadRequest, match=f"version 3; {version} is not newer"):
                send(service, tmp_path, other, version).result()
        wrong = with_lora(model, LoraConfig(rank=3, targets=("query",)))
        path = tmp_path / "wrong.safetensors"
        write_parameters(path, wrong.policy, wrong.params)
        with pytest.raises(UserError, match="do not fit"):
            service.replace(path, Update(4, LoraConfig(rank=2, targets=("query",)))).result()
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(UserError, match="not a safetensors file"):
            service.replace(path, Update(4, wrong.policy.trained_config)).result()
        with pytest.raises(UserError, match="not finite"):
            send(service, tmp_path, moved(other, np.inf), 4).result()
        assert service.draw(job(model)).result() == second.result()
        # Whole parameters take the place of both.
        send(service, tmp_path, other.merged(), 4).result()
        assert service.serving.model.policy.trained_config is None
        [[own]] = service.draw(job(model)).result().completions
        assert own.token_ids == second.result().completions[0][0].token_ids


def test_too_many_are_refused_and_those_left_at_the_end_are_cancelled(model):
    service = service_of(model, most_waiting=1)
    future = service.draw(job(model))
    with pytest.raises(BadRequest, match="1 requests are waiting") as caught:
        service.draw(job(model))
    assert caught.value.status == 429
    service._closed = True
    with service:
        pass
    with pytest.raises(CancelledError):
        future.result()


def test_few_programs_serve_all_lengths_and_temperatures(model):
    calls = {
        call_of(job(model, tokens=tokens, temperature=temperature, top_p=top_p), 1024)._replace(
            temperature=None, top_p=None
        )
        for tokens in range(1, 65)
        for temperature in (0.5, 0.7, 1.0)
        for top_p in (0.8, 0.9)
    }
    assert sorted(call.config.max_new_tokens for call in calls) == [16, 32, 48, 64]
    # Where a rounded length does not fit behind the prompt, it is the length asked for.
    assert call_of(job(model, "a" * 1000, tokens=20), 1024).config.max_new_tokens == 20


def test_the_seed_of_a_key_is_the_key():
    for seed in (0, 7, 2**32 - 1):
        assert seed_of(jax.random.key(seed)) == seed
    words = np.array([2**31, 5], np.uint32)
    assert seed_of(jax.random.wrap_key_data(words)) == -(2**63) + 5
    other = jax.random.key(3, impl="rbg")
    assert seed_of(other) == seed_of(other) != seed_of(jax.random.key(4, impl="rbg"))


def test_the_words_of_an_address():
    for lora in (None, LoraConfig(rank=3, alpha=0.1, targets=("up", "query"))):
        update = Update(5, lora)
        assert read_update(update.words()) == update
    for words in (
        {},
        {"version": "0"},
        {"version": "a"},
        {"version": "1", "rank": "2"},
        {"version": "1", "rank": "0", "alpha": "1", "targets": "up"},
        {"version": "1", "rank": "1", "alpha": "1", "targets": "down,sideways"},
        {"version": "1", "more": "2"},
    ):
        with pytest.raises(UserError):
            read_update(words)
