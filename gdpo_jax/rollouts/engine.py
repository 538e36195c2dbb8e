"""The engine protocol (whatever turns prompts into rollouts), and the jitted sampler behind it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    DEFAULT_RULES,
    DecoderConfig,
    Params,
    Policy,
    ShardingRules,
    cut_weights,
    gather_weights,
    gathered_bytes,
    pin_rows,
)
from gdpo_jax.rollouts.checks import check_positions, check_sampler_ids
from gdpo_jax.rollouts.records import WHOLE_UP_TO, Rollout, SamplerConfig
from gdpo_jax.rollouts.sampler import sample


@runtime_checkable
class Engine(Protocol):
    """Draws completions with the given parameters; an outside server fits behind it as well.

    Arrays of a rollout are JAX or NumPy arrays. With several processes prompts are global arrays,
    and the rollout's are to be global too: each process makes its own rows, and
    `gdpo_jax.training.to_global` makes global arrays of them. An engine may have a field `config`,
    a `SamplerConfig`: runs then check their options against it.
    """

    def generate(
        self,
        params: Params,
        prompts: Int[Array | np.ndarray, "B P"],
        prompt_lengths: Int[Array | np.ndarray, "B"],
        key: Key[Array, ""],
        *,
        num_samples: int,
    ) -> Rollout:
        """`num_samples` completions of each prompt; the key is consumed.

        Whatever reads `params` is dispatched when it returns: an update may donate them next.
        """
        ...


def sampler_of(engine: Engine) -> SamplerConfig | None:
    """How an engine draws, where it says so by a field `config`."""
    config = getattr(engine, "config", None)
    return config if isinstance(config, SamplerConfig) else None


@dataclasses.dataclass(frozen=True)
class JaxEngine:
    """The jitted sampler behind the protocol; see `jax_engine`."""

    policy: Policy
    config: SamplerConfig
    batch_sharding: jax.NamedSharding | None
    bucket: int
    rules: ShardingRules = DEFAULT_RULES

    def generate(
        self,
        params: Params,
        prompts: Int[Array | np.ndarray, "B P"],
        prompt_lengths: Int[Array | np.ndarray, "B"],
        key: Key[Array, ""],
        *,
        num_samples: int,
    ) -> Rollout:
        """As the protocol says; the rollout's prompts are padded to a bucket.

        Raises UserError for prompts that leave too few positions for the completion.
        """
        size = prompts.shape[1]
        check_positions(self.policy, [size], self.config.max_new_tokens)
        longest = self.policy.config.max_positions - self.config.max_new_tokens
        extra = max(0, min(padded_size(size, self.bucket), longest) - size)
        pad = np.pad if isinstance(prompts, np.ndarray) else jnp.pad
        prompts = pad(prompts, ((0, 0), (0, extra)), constant_values=self.config.pad_id)
        if self.batch_sharding is not None:
            prompts, prompt_lengths = jax.device_put((prompts, prompt_lengths), self.batch_sharding)
        program = sampler_program(
            self.policy, self.config, num_samples, self.batch_sharding, self.rules
        )
        return program(params, prompts, prompt_lengths, key)


def jax_engine(
    policy: Policy,
    config: SamplerConfig,
    *,
    batch_sharding: jax.NamedSharding | None = None,
    bucket: int = 32,
    rules: ShardingRules = DEFAULT_RULES,
) -> Engine:
    """An engine that samples with `sample` under `jax.jit`, one program for each prompt bucket.

    batch_sharding: how the leading axis of prompts and of the rollout lies on a mesh; parameters
      stay where they are.
    bucket: prompt lengths are padded up to 1, 2, 3, 4, 6, 8, 12, ... times it (`padded_size`), so
      that few programs compile; 1 leaves prompts as wide as they come.
    rules: the table by which the parameters lie on the mesh.

    Raises UserError for a bucket below 1, and for stop or padding ids outside of the vocabulary.
    """
    check_sampler_ids(policy, config)
    if bucket < 1:
        raise UserError(f"the prompt bucket must be at least 1, got {bucket}")
    return JaxEngine(policy, config, batch_sharding, bucket, rules)


def padded_size(size: int, bucket: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16, ... times `bucket` that is not below `size`.

    Two sizes a doubling: at most half of the prompt is added beyond the second bucket, and prompts
    up to 2,048 need 12 programs where multiples of 32 need 64. With a bucket of 1 it is `size`
    itself: whoever asks for that has padded already.
    """
    if bucket == 1:
        return size
    low = bucket
    while 2 * low < size:
        low *= 2
    between = low + low // 2 if low > bucket else 2 * low
    return next(legal for legal in (bucket, between, 2 * low) if legal >= size)


def cuts_weights(
    policy: Policy,
    config: SamplerConfig,
    batch_sharding: jax.NamedSharding,
    rules: ShardingRules = DEFAULT_RULES,
) -> bool:
    """Whether devices decode with cut weights, as `SamplerConfig.weights` says.

    Raises UserError where they should and the model is not the decoder of this library.
    """
    own = isinstance(policy.config, DecoderConfig)
    if config.weights == "auto" and own:
        several = batch_sharding.mesh.size > 1
        return several and gathered_bytes(policy, batch_sharding, rules=rules) > WHOLE_UP_TO
    if config.weights == "cut" and not own:
        raise UserError(
            "weights 'cut' is for the decoder of this library, and this is another model; "
            "use 'whole' or 'auto'"
        )
    return config.weights == "cut"


@functools.lru_cache(maxsize=64)
def sampler_program(
    policy: Policy,
    config: SamplerConfig,
    num_samples: int,
    batch_sharding: jax.NamedSharding | None,
    rules: ShardingRules = DEFAULT_RULES,
) -> Callable[..., Rollout]:
    """`f(params, prompts, prompt_lengths, key) -> Rollout` under `jax.jit`.

    Raises UserError as `cuts_weights`.
    """
    options = {"num_samples": num_samples, "config": config}
    if batch_sharding is None:
        return jax.jit(functools.partial(sample, policy, **options))
    mesh = batch_sharding.mesh
    pieces = mesh.size // batch_sharding.shard_shape((mesh.size,))[0]
    pinned = pin_rows(policy, batch_sharding, rules=rules)
    cuts = cuts_weights(policy, config, batch_sharding, rules)
    placed = (cut_weights if cuts else gather_weights)(pinned, batch_sharding, rules=rules)
    return jax.jit(
        functools.partial(sample, placed, pieces=pieces, **options),
        out_shardings=batch_sharding,
    )
