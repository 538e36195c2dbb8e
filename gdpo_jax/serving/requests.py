"""What a client asks for, read from the body of a request for a completion or a chat completion.

Beyond OpenAI's protocol stand fields that other servers have as well (vLLM): `top_k`, `min_p`,
`stop_token_ids`, `ignore_eos` and `return_token_ids`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gdpo_jax.errors import UserError
from gdpo_jax.models import Model
from gdpo_jax.prompts import Prompt, encode_prompt
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.serving.fields import (
    NEUTRAL,
    NEUTRAL_CHAT,
    BadRequest,
    check_fields,
    is_text,
    read_length,
    read_messages,
    read_model,
    read_number,
    read_object,
    read_stop,
    read_stream,
    typed,
)

__all__ = ["Asked", "Limits", "read_chat", "read_completion"]

Data = Mapping[str, Any]
_COMMON = {
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "stop",
    "seed",
    "user",
    "logprobs",
    "top_k",
    "min_p",
    "stop_token_ids",
    "ignore_eos",
    "return_token_ids",
}
_NEUTRAL_COMPLETION = {**NEUTRAL, "echo": (False,), "suffix": ("",)}
_SHORT = 16  # tokens of a completion that names no number, as the protocol has it
_TEMPERATURES = (0.01, 100.0)  # closer to 0, logits would overflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What clients may ask for."""

    name: str  # of the model, as clients give it
    max_new_tokens: int  # of an answer
    rows: int  # completions that are decoded together, and of one prompt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What a client asks for, in the terms of the sampler.

    seed: signed, of 64 bits; None for any. stop: texts before which an answer ends.
    """

    prompts: list[list[int]]
    num_samples: int
    sampler: SamplerConfig
    stop: tuple[str, ...]
    seed: int | None
    stream: bool
    usage: bool
    log_probs: bool
    token_ids: bool


def read_completion(body: bytes, model: Model, limits: Limits) -> Asked:
    """A request for completions of texts or token ids. Raises `BadRequest` that names the field."""
    data = read_object(body)
    check_fields(data, {*_COMMON, "prompt", "best_of"}, _NEUTRAL_COMPLETION)
    read_model(data, limits.name)
    if typed(data, "best_of", int) not in (None, typed(data, "n", int) or 1):
        message = "this server draws no more than it gives; make it n, or leave it out"
        raise BadRequest(message, "best_of", code="unsupported_parameter")
    log_probs = typed(data, "logprobs", int)
    if log_probs:
        message = f"logprobs is {log_probs}; give 0, for those of the tokens that were drawn"
        raise BadRequest(message, "logprobs", code="unsupported_parameter")
    prompts = [_encoded(model, given, field) for field, given in _prompts(data)]
    return _asked(
        data, model, limits, prompts, "prompt", log_probs=log_probs is not None, default=_SHORT
    )


def read_chat(body: bytes, model: Model, limits: Limits) -> Asked:
    """A request for a chat completion. Raises `BadRequest` that names the field."""
    data = read_object(body)
    used = {*_COMMON, "messages", "max_completion_tokens", "top_logprobs"}
    check_fields(data, used, NEUTRAL_CHAT)
    read_model(data, limits.name)
    if typed(data, "top_logprobs", int):
        message = "this server gives log-probs of drawn tokens alone; leave it out, or give 0"
        raise BadRequest(message, "top_logprobs", code="unsupported_parameter")
    prompt = _encoded(model, read_messages(data), "messages")
    log_probs = typed(data, "logprobs", bool) or False
    return _asked(data, model, limits, [prompt], "messages", log_probs=log_probs, default=None)


def _prompts(data: Data) -> list[tuple[str, Prompt]]:
    """Prompts by the names of their fields: a text, a list of token ids, or a list of either."""
    given = data.get("prompt")
    if isinstance(given, list) and given and not isinstance(given[0], int):
        return [(f"prompt[{n}]", one) for n, one in enumerate(given)]
    return [("prompt", given)]


def _encoded(model: Model, prompt: Any, field: str) -> list[int]:
    if not (is_text(prompt) or (isinstance(prompt, list) and prompt)):
        raise BadRequest("give a text, or a list of token ids", field)
    try:
        return encode_prompt(model.tokenizer, prompt)
    except UserError as error:
        raise BadRequest(str(error), field) from None


def _asked(
    data: Data,
    model: Model,
    limits: Limits,
    prompts: list[list[int]],
    field: str,
    *,
    log_probs: bool,
    default: int | None,
) -> Asked:
    stream, usage = read_stream(data)
    return Asked(
        prompts=prompts,
        num_samples=_whole(data, "n", 1, limits.rows) or 1,
        sampler=_sampler(data, model, _length(data, model, limits, prompts, field, default)),
        stop=read_stop(data),
        seed=_whole(data, "seed", -(2**63), 2**63 - 1),
        stream=stream,
        usage=usage,
        log_probs=log_probs,
        token_ids=typed(data, "return_token_ids", bool) or False,
    )


def _length(
    data: Data,
    model: Model,
    limits: Limits,
    prompts: list[list[int]],
    field: str,
    default: int | None,
) -> int:
    """How many tokens an answer may have, so that it fits behind the longest prompt."""
    names = ("max_completion_tokens", "max_tokens") if field == "messages" else ("max_tokens",)
    given = read_length(data, names, limits.max_new_tokens)
    longest, positions = max(map(len, prompts)), model.policy.config.max_positions
    left = positions - longest
    if left < (given or 1):
        tokens = f"{given} tokens" if given else "an answer"
        message = f"{longest} tokens leave no {tokens} of the model's {positions} positions"
        raise BadRequest(message, field, code="context_length_exceeded")
    return given or min(default or limits.max_new_tokens, limits.max_new_tokens, left)


def _sampler(data: Data, model: Model, length: int) -> SamplerConfig:
    temperature = read_number(data, "temperature", 1.0, 0, _TEMPERATURES[1])
    if 0 < temperature < _TEMPERATURES[0]:
        message = f"temperature is {temperature}; give 0, or at least {_TEMPERATURES[0]}"
        raise BadRequest(message, "temperature")
    top_p = read_number(data, "top_p", 1.0, 0, 1)
    if top_p == 0:
        raise BadRequest("top_p is 0; give more, up to 1", "top_p")
    tokenizer = model.tokenizer
    stops = set(typed(data, "stop_token_ids", list) or ())
    most = model.policy.config.vocab_size - 1
    if not all(type(token) is int and 0 <= token <= most for token in stops):
        raise BadRequest(f"stop_token_ids are whole numbers from 0 to {most}", "stop_token_ids")
    if not typed(data, "ignore_eos", bool):
        stops |= set(tokenizer.stop_ids or (tokenizer.eos_id,))
    return SamplerConfig(
        max_new_tokens=length,
        stop_ids=tuple(sorted(stops)),
        pad_id=tokenizer.pad_id,
        temperature=float(temperature),
        top_k=_whole(data, "top_k", 0, most + 1) or 0,
        top_p=float(top_p),
        min_p=float(read_number(data, "min_p", 0.0, 0, 1)),
    )


def _whole(data: Data, field: str, least: int, most: int) -> int | None:
    value = typed(data, field, int)
    if value is not None and not least <= value <= most:
        raise BadRequest(f"{field} is {value}; give {least} to {most}", field)
    return value
