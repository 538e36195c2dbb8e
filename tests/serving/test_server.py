"""The server on the loopback interface, asked by the real openai client."""

import contextlib
import threading

import jax
import numpy as np
import openai
import pytest

from experiments.common.chats.endpoint import endpoint_model
from experiments.common.chats.model import Limits
from gdpo_jax.answers import complete, model_engine, sampler_config
from gdpo_jax.data import pad_right

ASK = [{"role": "user", "content": "List 3 films"}]
PROMPTS = ["List", "List 10 films, newest", "Ardton (1985)."]


@pytest.fixture
def client(serve):
    with contextlib.closing(openai.OpenAI(base_url=serve(), api_key="none", max_retries=0)) as one:
        yield one


def chat(client, **more):
    return client.chat.completions.create(model="m", messages=ASK, **more)


def text(client, prompt, **more):
    return client.completions.create(model="m", prompt=prompt, **more)


def extra(**fields):
    return {"extra_body": fields}


def test_the_most_likely_answer_is_the_models_own(client, model):
    [own] = complete(model, [ASK], sampler=sampler_config(model, max_new_tokens=16, temperature=0))
    said = chat(client, temperature=0, max_tokens=16, **extra(return_token_ids=True))
    [choice] = said.choices
    assert choice.message.content == own.text and choice.message.role == "assistant"
    assert choice.token_ids == list(own.token_ids)
    assert choice.finish_reason == ("stop" if own.finished else "length")
    prompt = model.tokenizer.encode("<user>List 3 films<answer>")
    assert said.usage.prompt_tokens == len(prompt)
    assert said.usage.completion_tokens == len(own.token_ids)
    assert said.parameters_version == 0 and said.object == "chat.completion"
    # The same as a prompt of token ids, and of text.
    for given in (prompt, "<user>List 3 films<answer>"):
        [choice] = text(client, given, temperature=0, max_tokens=16).choices
        assert choice.text == own.text and choice.logprobs is None


def test_the_endpoints_of_experiments_talk_to_it(client, model):
    [own] = complete(model, [ASK], sampler=sampler_config(model, max_new_tokens=16, temperature=0))
    [said] = endpoint_model(str(client.base_url), model="m").answer(
        [ASK], Limits(max_new_tokens=16)
    )
    assert (said.text, said.completion_tokens) == (own.text, len(own.token_ids))


def test_what_is_drawn_is_what_the_own_sampler_draws_with_the_seed(client, model):
    rows = [model.tokenizer.encode(prompt) for prompt in PROMPTS]
    sampler = sampler_config(model, max_new_tokens=16, temperature=0.5, top_p=0.9)
    padded = pad_right(rows, 32, pad_id=model.tokenizer.pad_id)
    own = model_engine(model, sampler).generate(
        model.params, *padded, jax.random.key(7), num_samples=3
    )
    options = {"n": 3, "temperature": 0.5, "top_p": 0.9, "max_tokens": 16, "seed": 7}
    said = text(client, rows, **options, logprobs=0, **extra(return_token_ids=True))
    assert [choice.index for choice in said.choices] == list(range(9))
    places = [(b, g) for b in range(3) for g in range(3)]
    for choice, (b, g) in zip(said.choices, places):
        kept = np.asarray(own.mask[b, g])
        assert choice.token_ids == np.asarray(own.completions[b, g])[kept].tolist()
        assert len(choice.logprobs.tokens) == len(choice.token_ids)
        for told, drawn in (
            (choice.logprobs.token_logprobs, own.log_probs),
            (choice.logprobs.sampled_token_logprobs, own.sampled_log_probs),
        ):
            np.testing.assert_allclose(told, np.asarray(drawn[b, g])[kept], atol=1e-5)
    # Fewer tokens are the beginning of more, and another seed draws something else.
    short = text(client, rows, **{**options, "max_tokens": 5}, **extra(return_token_ids=True))
    for one, other in zip(short.choices, said.choices):
        assert one.token_ids == other.token_ids[:5]
        assert one.finish_reason == ("stop" if len(other.token_ids) < 5 else "length")
    assert short.usage.completion_tokens == sum(len(c.token_ids) for c in short.choices)
    other = text(client, rows, **{**options, "seed": -8})
    assert [c.text for c in other.choices] != [c.text for c in said.choices]
    assert text(client, PROMPTS[0], max_tokens=8) != text(client, PROMPTS[0], max_tokens=8)


@pytest.mark.parametrize("n", [1, 2])
def test_a_stream_holds_the_same_answer_token_by_token(client, n):
    options = {"seed": 3, "max_tokens": 16, "n": n, "stream_options": {"include_usage": True}}
    whole = chat(client, seed=3, max_tokens=16, n=n, logprobs=True)
    chunks = list(chat(client, **options, stream=True, logprobs=True))
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[-1].usage == whole.usage
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    for choice in whole.choices:
        own = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == choice.index]
        assert own[0].delta.role == "assistant"
        assert "".join(c.delta.content or "" for c in own) == choice.message.content
        told = [token for c in own if c.logprobs for token in c.logprobs.content]
        assert told == choice.logprobs.content and 0 < len(told) <= 16
        assert b"".join(bytes(token.bytes) for token in told).decode(errors="replace")
        assert [c.finish_reason for c in own if c.finish_reason] == [choice.finish_reason]
    options = {"seed": 3, "max_tokens": 16, "n": n, "logprobs": 0}
    whole = text(client, PROMPTS[0], **options)
    chunks = list(text(client, PROMPTS[0], **options, stream=True))
    assert all(chunk.choices for chunk in chunks)
    for choice in whole.choices:
        own = [c.choices[0] for c in chunks if c.choices[0].index == choice.index]
        assert "".join(c.text for c in own) == choice.text
        told = [c.logprobs for c in own if c.logprobs]
        assert [p for c in told for p in c.token_logprobs] == choice.logprobs.token_logprobs
        assert [p for c in told for p in c.text_offset] == choice.logprobs.text_offset


def test_an_answer_ends_before_a_stop_text(client):
    options = {"seed": 1, "max_tokens": 16, **extra(return_token_ids=True)}
    [whole] = text(client, PROMPTS[1], **options).choices
    stop = whole.text[6:8]
    at = whole.text.find(stop)
    said = text(client, PROMPTS[1], stop=[stop, "no such text"], logprobs=0, **options)
    [cut] = said.choices
    assert cut.text == whole.text[:at] and cut.finish_reason == "stop"
    assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]
    assert len(cut.logprobs.token_logprobs) == len(cut.token_ids) == said.usage.completion_tokens
    assert len(cut.token_ids) < len(whole.token_ids)
    streamed = text(client, PROMPTS[1], stop=stop, stream=True, **options)
    assert "".join(chunk.choices[0].text for chunk in streamed) == cut.text
    # A token that ends it is part of the tokens, and has no text.
    word = whole.token_ids[4]
    more = extra(stop_token_ids=[word], return_token_ids=True)
    [last] = text(client, PROMPTS[1], **options | more).choices
    assert last.token_ids == whole.token_ids[: whole.token_ids.index(word) + 1]
    assert last.finish_reason == "stop" and whole.text.startswith(last.text)


def test_models_are_listed(client):
    assert [m.id for m in client.models.list()] == ["m"]
    assert client.models.retrieve("m").owned_by == "gdpo_jax"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other/one")


@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_errors_of_the_protocol(client, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, temperature=200, stream=stream)
    assert caught.value.param == "temperature" and "give 0 to 100" in caught.value.message
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="other", prompt="a", stream=stream)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        text(client, "a" * 5000, stream=stream)
    assert caught.value.code == "context_length_exceeded" and caught.value.param == "prompt"
    with pytest.raises(openai.NotFoundError):
        client.post("/embeddings", cast_to=object, body={})
    with pytest.raises(openai.PermissionDeniedError, match="takes no parameters"):
        client.get("/parameters", cast_to=object)


def test_a_key_is_asked_for_where_one_is_set(serve):
    url = serve(key="sesame-open")
    with openai.OpenAI(base_url=url, api_key="sesame-open", max_retries=0) as client:
        assert text(client, "a", max_tokens=2).choices
        wrong = client.with_options(api_key="sesame")
        for call in (lambda: text(wrong, "a"), lambda: chat(wrong), wrong.models.list):
            with pytest.raises(openai.AuthenticationError):
                call()


def test_a_body_that_is_too_large_is_refused(serve):
    with (
        openai.OpenAI(base_url=serve(most_bytes=2000), api_key="-", max_retries=0) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        text(client, "a" * 3000)
    assert caught.value.status_code == 413


def test_a_model_whose_numbers_are_not_finite_is_an_error(serve, model):
    damaged = {**model.params, "embedding": model.params["embedding"] * np.float32("nan")}
    url = serve(model.with_params(damaged))
    with (
        openai.OpenAI(base_url=url, api_key="-", max_retries=0) as client,
        pytest.raises(openai.InternalServerError, match="are not finite"),
    ):
        text(client, "a", max_tokens=2)


def test_requests_of_several_clients_at_once_each_get_their_own(client):
    def ask(seed):
        [choice] = text(client, PROMPTS[seed % 3], seed=seed, max_tokens=8).choices
        return choice.text

    alone, together = [ask(seed) for seed in range(4)], [None] * 4

    def work(seed):
        together[seed] = ask(seed)

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone and len(set(alone)) == 4
