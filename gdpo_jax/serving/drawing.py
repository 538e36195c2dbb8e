"""Completions of several clients' requests, drawn together by few programs.

A program is compiled for a number of prompts and of completions, a width of prompts and a number
of tokens. Prompts are filled up to 1, 2, 4, 8, ...; the other three are rounded up to two sizes a
doubling, and what is too much is cut off; temperature and top-p are numbers that a program is
given. What a request draws depends on its seed and its own prompts alone, not on the requests that
it is drawn with.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

from gdpo_jax.data import pad_right
from gdpo_jax.errors import UserError
from gdpo_jax.models import Model
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.rollouts.engine import padded_size, sampler_program
from gdpo_jax.training import batch_sharding, batch_shards

__all__ = ["Call", "Drawn", "Job", "call_of", "draw", "seed_of"]

_LENGTHS = 16  # tokens; numbers of new tokens are 1, 2, 3, 4, 6, 8, ... times this
_WORD = 2**32 - 1  # the bits of half a seed
_ANY_CUT = 0.5  # stands for all top_p below 1 in the configuration of a program


class Job(NamedTuple):
    """What one request asks to be drawn; `seed` of 64 bits, signed or not."""

    prompts: Sequence[Sequence[int]]
    num_samples: int
    seed: int
    sampler: SamplerConfig


class Call(NamedTuple):
    """What requests must share to be drawn together; the numbers are None where `config` does."""

    config: SamplerConfig
    num_samples: int
    temperature: float | None
    top_p: float | None


class Drawn(NamedTuple):
    """One completion: its tokens, the stop token included, and their log-probs as in `Rollout`."""

    token_ids: list[int]
    log_probs: list[float]
    sampled_log_probs: list[float] | None
    finished: bool


def seed_of(key: Key[Array, ""]) -> int:
    """A signed number of 64 bits, as servers take it: with it `draw` draws what the own sampler
    draws with the key. Of keys that are not JAX's default ones it is just some number."""
    if str(jax.random.key_impl(key)) == "threefry2x32":
        words = jax.random.key_data(key)
    else:
        words = jax.random.bits(key, (2,), jnp.uint32)
    high, low = np.asarray(words).astype(np.uint64).tolist()
    unsigned = high << 32 | low
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def call_of(job: Job, positions: int) -> Call:
    """How the job is drawn by a model with so many positions."""
    own = job.sampler
    longest = max(map(len, job.prompts))
    length = padded_size(own.max_new_tokens, _LENGTHS)
    if longest + length > positions:
        length = own.max_new_tokens
    greedy, cut = own.temperature == 0, own.top_p < 1 and own.temperature > 0
    config = SamplerConfig(
        max_new_tokens=length,
        stop_ids=own.stop_ids,
        pad_id=own.pad_id,
        temperature=0.0 if greedy else 1.0,
        top_k=own.top_k,
        top_p=_ANY_CUT if cut else 1.0,
        min_p=own.min_p,
    )
    return Call(
        config=config,
        num_samples=_rounded(job.num_samples),
        temperature=None if greedy else own.temperature,
        top_p=own.top_p if cut else None,
    )


def draw(
    model: Model, jobs: Sequence[Job], call: Call, *, bucket: int, rows: int
) -> list[list[list[Drawn]]]:
    """The completions of each prompt of each job, all of the same `call`.

    bucket: prompts are padded to 1, 2, 3, 4, 6, ... times it. rows: completions decoded together.
    Raises UserError for a model whose log-probs are not finite.
    """
    owners = [(job, n) for job in jobs for n in range(len(job.prompts))]
    unit = batch_shards(model.mesh)
    most = max(1, rows // call.num_samples // unit) * unit
    found: list[list[Drawn]] = []
    for first in range(0, len(owners), most):
        part = owners[first : first + most]
        size = min(unit << (-(-len(part) // unit) - 1).bit_length(), most)
        arrays = _draw_part(model, part, call, size, bucket)
        for row, (job, _) in enumerate(part):
            found.append([_drawn(arrays, row, n, job) for n in range(job.num_samples)])
    results, rest = [], iter(found)
    for job in jobs:
        results.append([next(rest) for _ in job.prompts])
    return results


def _draw_part(
    model: Model, part: Sequence[tuple[Job, int]], call: Call, size: int, bucket: int
) -> dict[str, np.ndarray | None]:
    """Arrays of a rollout of `size` prompts, the last ones repeats of the first."""
    filled = [*part, *[part[0]] * (size - len(part))]
    prompts = [job.prompts[n] for job, n in filled]
    longest = model.policy.config.max_positions - call.config.max_new_tokens
    width = min(padded_size(max(map(len, prompts)), bucket), longest)
    padded = pad_right(prompts, width, pad_id=call.config.pad_id, what="prompt")
    sharding = batch_sharding(model.mesh)
    program = sampler_program(model.policy, call.config, call.num_samples, sharding, model.rules)
    numbers = {"temperature": call.temperature, "top_p": call.top_p}
    seeds = np.array([[job.seed >> 32 & _WORD, job.seed & _WORD] for job, _ in filled], np.uint32)
    places = np.array([n for _, n in filled], np.int32)
    rollout = program(
        model.params,
        *jax.device_put(padded, sharding),
        _prompt_keys(seeds, places),
        **{name: None if value is None else np.float32(value) for name, value in numbers.items()},
    )
    names = ("completions", "mask", "finished", "log_probs", "sampled_log_probs")
    arrays = jax.device_get({name: rollout[name] for name in names})
    if not np.isfinite(arrays["log_probs"][arrays["mask"]]).all():
        raise UserError(
            f"the log-probs of {model.name or 'this model'} are not finite: its parameters are "
            "damaged, or its numbers overflow in this dtype"
        )
    return arrays


@jax.jit
def _prompt_keys(seeds: UInt32[Array, "B 2"], places: Int[Array, "B"]) -> Key[Array, "B"]:
    """Keys of prompts, as the sampler makes them of one key: that whose data is the seed."""
    keys = jax.random.wrap_key_data(seeds, impl="threefry2x32")
    return jax.vmap(jax.random.fold_in)(keys, places)


def _drawn(arrays: dict[str, Any], row: int, sample: int, job: Job) -> Drawn:
    """A completion without what is behind the job's own number of tokens."""
    length = int(arrays["mask"][row, sample].sum())
    kept = min(length, job.sampler.max_new_tokens)

    def numbers(name: str) -> list[Any] | None:
        return None if arrays[name] is None else arrays[name][row, sample, :kept].tolist()

    return Drawn(
        token_ids=numbers("completions"),
        log_probs=numbers("log_probs"),
        sampled_log_probs=numbers("sampled_log_probs"),
        finished=bool(arrays["finished"][row, sample]) and kept == length,
    )


def _rounded(count: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, ... that is not below `count`."""
    return padded_size(2 * count, 2) // 2
