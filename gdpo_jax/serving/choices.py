"""The answer of a server as arrays of a rollout; what is missing or contradicts itself is named."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gdpo_jax.errors import UserError
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.token_ids import check_token_ids

__all__ = ["check_version", "read_choices"]

_LEAST, _MOST = -1e30, 1e-3  # of a log-prob: finite in float32, and 0 but for rounding


def check_version(answer: Mapping[str, Any], sent: int) -> None:
    """Raises UserError unless the answer is of the parameters with the version that was sent."""
    found = answer.get("parameters_version")
    if type(found) is not int:
        raise UserError(
            "the answer has no parameters_version, so that nobody knows which parameters it is of; "
            "start the server with python -m gdpo_jax serve"
        )
    if found < sent:
        raise UserError(
            f"it lags behind: its answer is of parameters with version {found}, and {sent} was "
            "sent; was it started anew? Run the same command again"
        )
    if found > sent:
        raise UserError(
            f"its answer is of parameters with version {found}, and {sent} was sent: another "
            "trainer sends to it as well; give each a server of its own"
        )


def read_choices(
    answer: Mapping[str, Any],
    *,
    prompts: int,
    num_samples: int,
    sampler: SamplerConfig,
    vocab_size: int,
) -> dict[str, np.ndarray | None]:
    """The completions of so many prompts as the fields of a `Rollout`, [prompts, samples, ...].

    Raises UserError for choices that are missing, and for one without token ids or log-probs, of
    another length or end than the sampler's.
    """
    choices = answer.get("choices")
    choices = choices if isinstance(choices, list) else []
    indices = [choice.get("index") for choice in choices if isinstance(choice, dict)]
    whole = all(type(index) is int for index in indices) and len(indices) == len(choices)
    count = prompts * num_samples
    if not whole or sorted(indices) != list(range(count)):
        raise UserError(
            f"the answer has choices {indices[:8]} for {prompts} prompts x {num_samples} samples; "
            f"expected 0 to {count - 1}"
        )
    shape = (count, sampler.max_new_tokens)
    ids = np.full(shape, sampler.pad_id, np.int32)
    mask, finished = np.zeros(shape, bool), np.zeros(count, bool)
    log_probs, sampled = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for choice in choices:
        row, where = choice["index"], f"choice {choice['index']}"
        own = _token_ids(choice, where, sampler, vocab_size)
        ids[row, : len(own)], mask[row, : len(own)] = own, True
        finished[row] = own[-1] in sampler.stop_ids
        said = choice.get("logprobs")
        said = said if isinstance(said, dict) else {}
        names = ["token_logprobs", *["sampled_token_logprobs"] * sampler.cuts]
        for name, into in zip(names, (log_probs, sampled)):
            into[row, : len(own)] = _log_probs(said.get(name), len(own), where, name)
    arrays = {
        "completions": ids,
        "mask": mask,
        "finished": finished,
        "log_probs": log_probs,
        "sampled_log_probs": sampled if sampler.cuts else None,
    }
    return {
        name: None if array is None else array.reshape(prompts, num_samples, *array.shape[1:])
        for name, array in arrays.items()
    }


def _token_ids(
    choice: Mapping[str, Any], where: str, sampler: SamplerConfig, vocab_size: int
) -> list[int]:
    own = choice.get("token_ids")
    if not isinstance(own, list) or not own:
        raise UserError(
            f"{where} has no token ids; the server must know the field return_token_ids"
        )
    check_token_ids(own, vocab_size, where)
    stops = [place for place, token in enumerate(own) if token in sampler.stop_ids]
    if len(own) > sampler.max_new_tokens:
        raise UserError(f"{where} has {len(own)} tokens; asked were {sampler.max_new_tokens}")
    if stops and stops[0] < len(own) - 1:
        raise UserError(f"{where} goes on behind a stop token, {own[stops[0]]}")
    if not stops and len(own) < sampler.max_new_tokens:
        raise UserError(
            f"{where} ends after {len(own)} of {sampler.max_new_tokens} tokens without a stop "
            f"token; those are {list(sampler.stop_ids)}"
        )
    return own


def _log_probs(values: Any, length: int, where: str, name: str) -> list[float]:
    if values is None:
        cut = name.startswith("sampled")
        advice = "sample without top_k, top_p and min_p" if cut else "a rollout needs them"
        raise UserError(f"it reports no log-probs: {where} has no logprobs.{name}; {advice}")
    numbers = isinstance(values, list) and all(
        type(value) in (int, float) and _LEAST < value < _MOST for value in values
    )
    if not numbers or len(values) != length:
        raise UserError(f"{where}: logprobs.{name} are not {length} finite numbers up to 0")
    return values
