"""Log-probs and entropies of completions from packed rows (packing.py); equal to the other layouts.

In the shape descriptions: `R` rows of `A` prompt tokens and `N` bins of `W` completion tokens.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gdpo_jax.policies.decoder import Params, Policy
from gdpo_jax.policies.group_attention import packed_attention
from gdpo_jax.policies.log_probs import check_options, token_log_probs
from gdpo_jax.policies.packing import PackedGroups


def packed_log_probs(
    policy: Policy,
    params: Params,
    packed: PackedGroups,
    completion_mask: Bool[Array, "B G C"],
    *,
    chunk: int | None = 16,
    temperature: float = 1.0,
    with_entropy: bool = True,
    entropy_gradient: bool = True,
) -> tuple[Float[Array, "B G C"], Float[Array, "B G C"] | None]:
    """What `completion_log_probs` gives of the groups that were packed, with the same options.

    chunk: positions of every bin whose logits exist at a time.

    Raises UserError for a temperature or chunk that is not positive.
    """
    check_options(chunk, temperature)
    cells = packed.prompts.shape[0]
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), packed.replace(places=None))

    def joined(prompt, behind):
        return jnp.concatenate([prompt, behind.reshape(behind.shape[0], -1)], axis=1)

    tokens = joined(rows.prompts, rows.completions)
    positions = joined(rows.prompt_positions, rows.completion_positions)
    attend = packed_attention(rows, window=policy.config.window)
    hidden, _ = policy.forward(params, tokens, positions, attend)
    predictors = rows.predictors.reshape(tokens.shape[0], -1, 1)
    before = jnp.take_along_axis(hidden, predictors, axis=1)
    values = token_log_probs(
        policy,
        params,
        before.reshape(*rows.completions.shape, -1),
        rows.completions,
        chunk=chunk,
        temperature=temperature,
        with_entropy=with_entropy,
        entropy_gradient=entropy_gradient,
    )

    def unpacked(of_rows):
        of_cells = of_rows.reshape(cells, -1)
        taken = jnp.take_along_axis(of_cells, packed.places.reshape(cells, -1), axis=1)
        return jnp.where(completion_mask, taken.reshape(completion_mask.shape), 0.0)

    log_probs, entropy = values
    return unpacked(log_probs), unpacked(entropy) if with_entropy else None


__all__ = ["packed_log_probs"]
