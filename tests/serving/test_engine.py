"""A run that samples at a server learns what it learns by its own sampler, bit for bit; servers
that misbehave stop it with one error.
"""

import dataclasses
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from gdpo_jax.answers import model_engine, sampler_config
from gdpo_jax.data import pad_right
from gdpo_jax.errors import UserError
from gdpo_jax.models import with_lora
from gdpo_jax.policies import LoraConfig, partial_policy
from gdpo_jax.recipe import optimize
from gdpo_jax.serving import server_engine
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig, fingerprint, read_metrics
from tests.experiments.chat_server import Reply, running_server

RECORDS = [{"prompt": f"List {n} films"} for n in range(16)]
PROMPTS = [[10, 11, 12], [13], [14, 15], [16, 17]]
KEY = "for-trainers"
DOCS = Path(__file__).parent.parent.parent / "docs" / "serving.md"


@pytest.fixture(scope="module")
def lora_model(model):
    return with_lora(model, LoraConfig(rank=4, alpha=16.0))


def letters(completions, records):
    return [sum(map(str.islower, c.text)) / 16 for c in completions]


def trained(model, workdir, engine, **sampling):
    config = PolicyOptimizationConfig(
        steps=6,
        prompts_per_step=8,
        num_samples=4,
        prompt_buckets=(32,),
        chunk=None,
        checkpoint_every=3,
    )
    return optimize(
        model,
        RECORDS,
        rewards=[letters],
        config=config,
        optimizer=OptimizerConfig(learning_rate=0.05),
        sampler=sampler_config(model, max_new_tokens=16, **sampling),
        engine=engine,
        workdir=workdir,
    )


def test_a_run_at_a_server_is_the_run_of_the_own_sampler(serve, lora_model, tmp_path):
    sampler = sampler_config(lora_model, max_new_tokens=16)
    # Its rows stay where they are, while the server's move together: one loop to compile.
    own = trained(lora_model, tmp_path / "own", None, halvings=0)
    url = serve(name="mine", parameters_key=KEY)
    # As docs/serving.md has it.
    space = {"model": lora_model, "url": url, "key": KEY}
    exec(re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[1], space)
    engine = space["engine"]
    state = trained(lora_model, tmp_path / "server", engine)
    rows, expected = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("server", "own"))
    rewards = [row["reward/letters/mean"] for row in rows]
    assert rewards == [row["reward/letters/mean"] for row in expected] and len(rewards) == 6
    assert rewards[-1] > rewards[0] + 0.1
    assert max(row["sampler/gap_max"] for row in rows) < 1e-4
    jax.tree.map(np.testing.assert_array_equal, state.params, own.params)
    assert engine.sent.version == 6
    # Another engine goes on behind the number that the server has.
    again = server_engine(lora_model, sampler, url=url, served="mine", parameters_key=KEY)
    prompts = pad_right(PROMPTS * 2, 32, pad_id=0)
    again.generate(state.params, *prompts, jax.random.key(0), num_samples=4)
    assert again.sent.version == 7
    with pytest.raises(UserError, match=r"status 409: .* have version 7; 7 is not newer"):
        engine.generate(state.params, *prompts, jax.random.key(0), num_samples=4)


def test_whole_parameters_are_sent_when_they_change(serve, model):
    sampler = sampler_config(model, max_new_tokens=16)
    url = serve(parameters_key=KEY, key="for-clients")
    keys = {"api_key": "for-clients", "parameters_key": KEY}
    engine = server_engine(model, sampler, url=url, served="m", **keys)
    prompts = pad_right(PROMPTS, 32, pad_id=0)
    own = model_engine(model, sampler)
    other = jax.tree.map(lambda leaf: leaf * 1.5, model.params)
    for params, version in ((other, 1), (other, 1), (model.params, 2)):
        key = jax.random.fold_in(jax.random.key(5), version)
        found = engine.generate(params, *prompts, key, num_samples=4)
        expected = own.generate(params, *prompts, key, num_samples=4)
        assert engine.sent.version == version
        for name in ("completions", "mask", "finished", "prompts", "prompt_lengths"):
            np.testing.assert_array_equal(found[name], expected[name])
        np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=1e-5)
        assert found.sampled_log_probs is None and found.log_probs.dtype == np.float32


def test_a_server_of_another_model_or_without_rights_is_named(serve, model, lora_model):
    sampler = sampler_config(model, max_new_tokens=16)
    prompts = pad_right(PROMPTS, 32, pad_id=0)
    moved = {**model.params, "embedding": model.params["embedding"] + 1}
    url = serve(model.with_params(moved), parameters_key=KEY)

    def fails(url, message, **options):
        engine = server_engine(lora_model, sampler, url=url, served="m", retries=0, **options)
        with pytest.raises(UserError, match=message) as caught:
            engine.generate(lora_model.params, *prompts, jax.random.key(0), num_samples=1)
        assert str(caught.value).startswith(f"server {url}: ") and KEY not in str(caught.value)
        assert engine.sent.version is None

    fails(url, "another base model", parameters_key=KEY)
    fails(url, "status 401: the key is missing or wrong", parameters_key="guessed")
    fails(serve(), "status 403: this server takes no parameters", parameters_key=KEY)
    fails("http://127.0.0.1:9/v1", "cannot be reached")


def test_what_cannot_be_sent_or_sampled_is_refused_at_once(model, lora_model, tmp_path):
    sampler = sampler_config(model, max_new_tokens=16)
    url = "http://127.0.0.1:9/v1"
    partial = dataclasses.replace(model, policy=partial_policy(model.policy, {"layers": 1}))
    with pytest.raises(UserError, match="whole or adapters"):
        server_engine(partial, sampler, url=url)
    with pytest.raises(UserError, match="stop_ids 900"):
        server_engine(model, dataclasses.replace(sampler, stop_ids=(900,)), url=url)
    with pytest.raises(UserError, match="must start with http"):
        server_engine(model, sampler, url="localhost:8000")
    engine = server_engine(model, dataclasses.replace(sampler, temperature=0.5), url=url)
    with pytest.raises(UserError, match="engine's own options differ"):
        trained(model, tmp_path, engine)


def choice(index, ids=(5, 2), **changes):
    log_probs = {"token_logprobs": [-1.0] * len(ids)}
    return {"index": index, "token_ids": list(ids), "logprobs": log_probs, **changes}


def answer(*changed, count=8, version=1):
    choices = [choice(index) for index in range(count)]
    for one in changed:
        choices[one["index"]] = one
    return {"choices": choices, "parameters_version": version}


def cut(body, at):
    return Reply(json.dumps(body).encode(), cut=at)


NO_PROBS = choice(1, logprobs=None)
BAD_ANSWERS = {
    "no log-probs": (answer(NO_PROBS), "reports no log-probs: choice 1 has no logprobs.token_l"),
    "infinite": (answer(choice(1, logprobs={"token_logprobs": [-1.0, float("-inf")]})), "2 finite"),
    "above 0": (answer(choice(1, logprobs={"token_logprobs": [-1.0, 0.5]})), "numbers up to 0"),
    "too few": (answer(choice(1, logprobs={"token_logprobs": [-1.0]})), "are not 2 finite numbers"),
    "no ids": (answer(choice(0, token_ids=None)), "choice 0 has no token ids"),
    "other vocabulary": (answer(choice(0, (300, 2))), "choice 0 holds 300 at place 0"),
    "no number": (answer(choice(0, ("a", 2))), "choice 0 holds 'a'"),
    "behind the stop": (answer(choice(0, (2, 5))), "goes on behind a stop token"),
    "too long": (answer(choice(0, (5,) * 5)), "has 5 tokens; asked were 4"),
    "no stop": (answer(choice(0, (5, 5))), "ends after 2 of 4 tokens without a stop token"),
    "too few choices": (answer(count=7), "4 prompts x 2 samples; expected 0 to 7"),
    "no list": ({"choices": 5, "parameters_version": 1}, "expected 0 to 7"),
    "no objects": ({"choices": ["a"] * 8, "parameters_version": 1}, "expected 0 to 7"),
    "no index": (answer(choice(1)) | {"choices": [choice("1")] * 8}, "expected 0 to 7"),
    "no choices": ({"parameters_version": 1}, "expected 0 to 7"),
    "twice the same": (
        {**answer(), "choices": [choice(n // 2) for n in range(8)]},
        "expected 0 to 7",
    ),
    "stale": (answer(version=0), "it lags behind: its answer is of parameters with version 0, and"),
    "newer": (answer(version=2), "another trainer sends to it as well"),
    "no version": (answer(version=None), "no parameters_version"),
    "500": (Reply(b'{"error": {"message": "out of memory"}}', status=500), "500: out of memory"),
    "cut": (cut(answer(), 50), "no whole answer"),
    "a page": (Reply(b"<html>"), "6 bytes that are no JSON object, or cut"),
    "a list": (Reply(b"[]"), "no JSON object"),
    "redirect": (Reply(b"", status=307, headers={"Location": "http://127.0.0.1:9"}), "status 307"),
}


@pytest.fixture
def stub(model, monkeypatch):
    """An engine of whole parameters, and its server, which takes them and answers as `said`."""
    monkeypatch.setenv("no_proxy", "*")
    sampler = sampler_config(model, max_new_tokens=4)
    assert sampler.stop_ids == (2,)
    with running_server() as server:
        server.said, server.version, server.put = answer(), 0, None

        def reply(body):
            if isinstance(body, bytes):
                if server.put is not None:
                    return server.put
                server.version += 1
            if isinstance(body, bytes) or not body:
                return Reply(json.dumps({"version": server.version, "base": "x"}).encode())
            own = server.said
            return own if isinstance(own, Reply) else Reply(json.dumps(own).encode())

        server.reply = reply
        engine = server_engine(model, sampler, url=server.url, parameters_key=KEY, retries=2)

        def generate():
            rows = pad_right(PROMPTS, 8, pad_id=0)
            return engine.generate(model.params, *rows, jax.random.key(3), num_samples=2)

        yield server, engine, generate


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_an_answer_that_cannot_be_used_is_one_error(stub, name):
    server, _, generate = stub
    server.said, message = BAD_ANSWERS[name]
    with pytest.raises(UserError, match=message) as caught:
        generate()
    assert str(caught.value).startswith(f"server {server.url}") and caught.value.__cause__ is None
    assert str(caught.value).count(server.url) == 1
    server.said = answer()
    assert generate().finished.all()
    assert server.version == 1


def test_what_is_asked_and_what_becomes_of_it(stub):
    server, _, generate = stub
    server.said = answer(choice(1, (7, 8, 9, 10)), choice(2, (2,)))
    rollout = generate()
    about, _, body = server.bodies
    assert about == {} and server.paths[1].endswith("/parameters?version=1")
    assert [headers.get("Authorization") for headers in server.headers] == [f"Bearer {KEY}"] * 2 + [
        None
    ]
    assert body["prompt"] == PROMPTS and (body["n"], body["seed"], body["logprobs"]) == (2, 3, 0)
    assert body["stop_token_ids"] == [2] and body["ignore_eos"] is True and "top_p" not in body
    np.testing.assert_array_equal(rollout.completions[0], [[5, 2, 0, 0], [7, 8, 9, 10]])
    np.testing.assert_array_equal(rollout.mask[1], [[1, 0, 0, 0], [1, 1, 0, 0]])
    assert rollout.finished.tolist() == [[True, False]] + [[True, True]] * 3
    assert rollout.log_probs[0, 0].tolist() == [-1, -1, 0, 0]
    # The same parameters are not sent again.
    generate()
    assert [type(body) for body in server.bodies] == [dict, bytes, dict, dict]


def test_parameters_that_were_not_taken_are_sent_again(stub):
    server, engine, generate = stub
    for put, message in (
        (Reply(b'{"error": {"message": "disk"}}', status=500), "PUT /parameters: status 500: disk"),
        (Reply(b'{"version": 7}'), "was sent parameters with version 1, and has 7"),
        (Reply(b'{"version": 1}', cut=5), "no whole answer"),
    ):
        server.put = put
        with pytest.raises(UserError, match=message):
            generate()
        assert engine.sent.version is None and isinstance(server.bodies[-1], bytes)
    server.put = None
    assert generate().finished.all() and engine.sent.version == 1


def test_a_busy_server_is_asked_again(stub):
    server, _, generate = stub
    generate()
    busy = Reply(b"{}", status=429, headers={"Retry-After": "0"})
    server.replies = [busy, busy]
    assert generate().finished.all()
    server.replies = [busy] * 3
    with pytest.raises(UserError, match="status 429, after 3 requests"):
        generate()


def test_log_probs_behind_a_cut_are_needed_where_one_is_made(stub, model):
    server, engine, _ = stub
    engine = dataclasses.replace(engine, config=dataclasses.replace(engine.config, top_p=0.5))
    rows = pad_right(PROMPTS, 8, pad_id=0)

    def generate():
        return engine.generate(model.params, *rows, jax.random.key(3), num_samples=2)

    with pytest.raises(
        UserError, match=r"no logprobs\.sampled_token_logprobs; sample without top_k"
    ):
        generate()
    both = {"token_logprobs": [-2.0, -2.0], "sampled_token_logprobs": [-1.0, -1.0]}
    server.said = answer(*(choice(index, logprobs=both) for index in range(8)))
    rollout = generate()
    assert rollout.sampled_log_probs[0, 0].tolist() == [-1, -1, 0, 0]
    assert rollout.log_probs[0, 0].tolist() == [-2, -2, 0, 0]
    assert server.bodies[-1]["top_p"] == 0.5


def test_the_digest_of_a_base_is_that_of_its_parameters(serve, model, lora_model):
    engine = server_engine(
        lora_model,
        sampler_config(model, max_new_tokens=4),
        url=serve(parameters_key=KEY),
        parameters_key=KEY,
    )
    about = engine.parameters_client.get("/parameters")
    assert about == {"version": 0, "base": fingerprint(model.params), "adapters": None}
