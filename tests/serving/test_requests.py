"""Bodies of requests: what is taken, and what is refused by the name of its field."""

import dataclasses
import json

import pytest

from gdpo_jax.serving.fields import BadRequest
from gdpo_jax.serving.requests import Limits, read_chat, read_completion

HELLO = [{"role": "user", "content": "Hello?"}]
LIMITS = Limits(name="m", max_new_tokens=100, rows=8)


def completion(model, /, **fields):
    body = json.dumps({"model": "m", "prompt": "Hello?", **fields})
    return read_completion(body.encode(), model, LIMITS)


def chat(model, /, **fields):
    body = json.dumps({"model": "m", "messages": HELLO, **fields})
    return read_chat(body.encode(), model, LIMITS)


def test_what_a_client_may_ask_for(model):
    ids = model.tokenizer.encode("Hello?")
    asked = completion(model)
    assert (asked.prompts, asked.num_samples, asked.seed, asked.stop) == ([ids], 1, None, ())
    assert (asked.stream, asked.usage, asked.log_probs, asked.token_ids) == (False,) * 4
    assert (asked.sampler.max_new_tokens, asked.sampler.temperature) == (16, 1.0)
    assert asked.sampler.stop_ids == (2,) and not asked.sampler.cuts
    for prompt, expected in (
        (ids, [ids]),
        ([ids, [5]], [ids, [5]]),
        (["Hello?", "Hello?"], [ids, ids]),
    ):
        assert completion(model, prompt=prompt).prompts == expected
    asked = completion(
        model,
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        min_p=0.1,
        n=3,
        best_of=3,
        stop=["end", "End"],
        seed=-(2**63),
        logprobs=0,
        return_token_ids=True,
        stop_token_ids=[9, 4],
        user="ann",
        echo=False,
        presence_penalty=0.0,
    )
    own = asked.sampler
    assert (own.max_new_tokens, own.temperature, own.top_p, own.top_k) == (7, 0.5, 0.9, 5)
    assert (own.min_p, own.stop_ids, asked.num_samples) == (0.1, (2, 4, 9), 3)
    assert (asked.stream, asked.usage, asked.log_probs, asked.token_ids) == (True,) * 4
    assert (asked.stop, asked.seed) == (("end", "End"), -(2**63))
    assert completion(model, stop_token_ids=[9], ignore_eos=True).sampler.stop_ids == (9,)


def test_a_chat_has_the_models_template_and_all_that_is_left_of_the_limit(model):
    asked = chat(model, logprobs=True, top_logprobs=0, max_completion_tokens=9, max_tokens=9)
    assert asked.prompts == [model.tokenizer.encode("<user>Hello?<answer>")]
    assert asked.log_probs and asked.sampler.max_new_tokens == 9
    assert chat(model).sampler.max_new_tokens == 100
    # 1,024 positions.
    long = [5] * 1000
    assert completion(model, prompt=long, max_tokens=24).sampler.max_new_tokens == 24
    assert completion(model, prompt=[5] * 1020).sampler.max_new_tokens == 4


BAD = [
    ({"model": None}, "model", 400),
    ({"model": "other"}, "model", 404),
    ({"temperature": 0.001}, "temperature", 400),
    ({"temperature": -1}, "temperature", 400),
    ({"temperature": float("nan")}, "temperature", 400),
    ({"top_p": 0}, "top_p", 400),
    ({"top_p": 1.5}, "top_p", 400),
    ({"top_k": -1}, "top_k", 400),
    ({"min_p": 2}, "min_p", 400),
    ({"n": 0}, "n", 400),
    ({"n": 9}, "n", 400),
    ({"n": True}, "n", 400),
    ({"seed": 2**63}, "seed", 400),
    ({"seed": 1.5}, "seed", 400),
    ({"stop": [""]}, "stop", 400),
    ({"stop": ["\ud800"]}, "stop", 400),
    ({"stop": ["a"] * 5}, "stop", 400),
    ({"stop_token_ids": [300]}, "stop_token_ids", 400),
    ({"stop_token_ids": [True]}, "stop_token_ids", 400),
    ({"max_tokens": 0}, "max_tokens", 400),
    ({"max_tokens": 101}, "max_tokens", 400),
    ({"presence_penalty": 0.5}, "presence_penalty", 400),
    ({"logit_bias": {"5": 1}}, "logit_bias", 400),
    ({"stream_options": {"include_usage": True}}, "stream_options", 400),
    ({"temprature": 1}, "temprature", 400),
]
BAD_COMPLETIONS = [
    ({"prompt": None}, "prompt", 400),
    ({"prompt": ""}, "prompt", 400),
    ({"prompt": []}, "prompt", 400),
    ({"prompt": [[]]}, "prompt[0]", 400),
    ({"prompt": ["a", 5]}, "prompt[1]", 400),
    ({"prompt": [5, "a"]}, "prompt", 400),
    ({"prompt": [5, 300]}, "prompt", 400),
    ({"prompt": "\ud800"}, "prompt", 400),
    ({"prompt": {"a": 1}}, "prompt", 400),
    ({"prompt": [{"role": "user", "content": "a"}]}, "prompt[0]", 400),
    ({"prompt": [5] * 1024}, "prompt", 400),
    ({"prompt": [5] * 1000, "max_tokens": 25}, "prompt", 400),
    ({"logprobs": 1}, "logprobs", 400),
    ({"logprobs": True}, "logprobs", 400),
    ({"best_of": 2}, "best_of", 400),
    ({"echo": True}, "echo", 400),
    ({"suffix": "a"}, "suffix", 400),
    ({"messages": HELLO}, "messages", 400),
]
BAD_CHATS = [
    ({"messages": []}, "messages", 400),
    ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content", 400),
    ({"messages": [*HELLO, {"role": "assistant", "content": "a"}]}, "messages[1].role", 400),
    ({"top_logprobs": 2}, "top_logprobs", 400),
    ({"logprobs": 1}, "logprobs", 400),
    ({"tools": [{"type": "function"}]}, "tools", 400),
    ({"response_format": {"type": "json_object"}}, "response_format", 400),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", 400),
    ({"prompt": "a"}, "prompt", 400),
]


@pytest.mark.parametrize(
    ("read", "fields", "field", "status"),
    [
        *((read, *case) for read in (completion, chat) for case in BAD),
        *((completion, *case) for case in BAD_COMPLETIONS),
        *((chat, *case) for case in BAD_CHATS),
    ],
)
def test_what_is_wrong_is_named(model, read, fields, field, status):
    with pytest.raises(BadRequest) as caught:
        read(model, **fields)
    assert (caught.value.field, caught.value.status) == (field, status)


def test_a_model_without_a_template_refuses_chats(model):
    bare = dataclasses.replace(
        model, tokenizer=dataclasses.replace(model.tokenizer, chat_template=None)
    )
    with pytest.raises(BadRequest, match="template") as caught:
        chat(bare)
    assert caught.value.field == "messages"
