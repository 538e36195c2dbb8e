"""Long completions on TPUs: JAX's splash attention kernel over rows without gaps.

The kernel knows masks by slots alone, and has no gradient of the log-sum-exp that a merge with the
prompt's part would need. So each completion gets a row of its own, its prompt in front and the
prompt's padding behind both: then causality hides what is not to be seen, and nothing is merged.
Prompts are computed once a completion here, which is little where completions are long. In the
shape descriptions: `T = P + C`, others as in attention.py.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention
from jaxtyping import Array, Float, Int

from gdpo_jax.policies.attention import Attend
from gdpo_jax.policies.policy import Placement
from gdpo_jax.policies.softmax_attention import MIXED

TILE = 512  # slots of a tile, to a multiple of which rows are padded
LANES = 128  # of a chip's vector unit


def served(queries: Float[Array, "*N K"]) -> bool:
    """Whether the kernel takes such heads: of bfloat16, that fill the lanes of a chip."""
    return queries.dtype == jnp.bfloat16 and queries.shape[-1] % LANES == 0


def splash_grouped(
    prompt_lengths: Int[Array, "B"],
    placement: Placement,
    *,
    prompt_size: int,
    num_samples: int,
    tile: int = TILE,
    interpret: bool = False,
) -> Attend:
    """`long_grouped` by the kernel, for decoders without windows.

    placement: how devices cut rows and heads; none of them needs those of another.
    tile: slots of a tile, a multiple of 128.
    interpret: computes what the kernel's tiles do on any backend, slowly.
    """

    def of_rows(queries, keys, values, lengths):
        length = (queries.shape[1] - prompt_size) // num_samples
        maps = _slots_of_places(lengths, prompt_size, length), _places(lengths, prompt_size, length)

        def rows(x):
            prompt, behind = x[:, :prompt_size], x[:, prompt_size:]
            behind = behind.reshape(len(x), num_samples, length, *x.shape[2:])
            prompt = jnp.broadcast_to(prompt[:, None], (len(x), num_samples, *prompt.shape[1:]))
            x = _moved(jnp.concatenate([prompt, behind], axis=2), *maps)
            x = jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % tile), (0, 0), (0, 0)))
            return jnp.swapaxes(x, 2, 3)

        heads, size = queries.shape[2:]
        split = rows(queries * size**-0.5)
        kernel = _causal_kernel(heads, split.shape[3], tile, interpret)
        mixed = jax.vmap(jax.vmap(kernel))(split, rows(keys), rows(values))
        mixed = jnp.swapaxes(mixed, 2, 3)[:, :, : prompt_size + length]
        mixed = _moved(mixed, *reversed(maps))
        behind = mixed[:, :, prompt_size:].reshape(len(mixed), -1, heads, size)
        return jnp.concatenate([mixed[:, 0, :prompt_size], behind], axis=1).astype(queries.dtype)

    def attend(queries, keys, values, cache, local):
        return placement.map_heads(of_rows)(queries, keys, values, prompt_lengths), cache

    return attend


def _causal_kernel(heads, tokens, tile, interpret):
    blocks = splash_attention.BlockSizes(
        block_q=tile,
        block_kv=tile,
        block_q_dkv=tile,
        block_kv_dkv=tile,
        block_q_dq=tile,
        block_kv_dq=tile,
    )
    mask = splash_attention.CausalMask((tokens, tokens))
    return splash_attention.make_splash_mha_single_device(
        splash_attention.MultiHeadMask([mask] * heads),
        block_sizes=blocks,
        residual_checkpoint_name=MIXED,
        interpret=interpret,
    )


def _places(lengths, prompt_size, length):
    """Where each slot of [prompt | completion] stands in a row without gaps [B, T]."""
    slots, ends = jnp.arange(prompt_size + length)[None], lengths[:, None]
    padding = jnp.where(slots < prompt_size, slots + length, slots - prompt_size + ends)
    return jnp.where(slots < ends, slots, padding)


def _slots_of_places(lengths, prompt_size, length):
    """Which slot stands at each place of a row without gaps [B, T]."""
    places, ends = jnp.arange(prompt_size + length)[None], lengths[:, None]
    behind = jnp.where(places < ends + length, places - ends + prompt_size, places - length)
    return jnp.where(places < ends, places, behind)


@jax.custom_vjp
def _moved(
    x: Float[Array, "B G T H K"], there: Int[Array, "B T"], back: Int[Array, "B T"]
) -> Float[Array, "B G T H K"]:
    """Slots in another order, `there`, whose inverse is `back`: a gather, in the gradient too."""
    return jnp.take_along_axis(x, there[:, None, :, None, None], axis=2)


_moved.defvjp(
    lambda x, there, back: (_moved(x, there, back), (there, back)),
    lambda maps, change: (_moved(change, *reversed(maps)), None, None),
)


__all__ = ["served", "splash_grouped"]
