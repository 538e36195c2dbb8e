"""Dropping samples whose rewards pull apart (GD2PO, arXiv 2606.16771)."""

import dataclasses
from typing import Literal

import jax.numpy as jnp

from gdpo_jax.advantages.algebra import with_metrics
from gdpo_jax.advantages.descriptions import named
from gdpo_jax.advantages.records import AdvantageTransform, Flow, stateless
from gdpo_jax.advantages.stages import REWARD_AXIS
from gdpo_jax.errors import UserError

# The authors' code calls a z-score beyond this positive or negative.
CONFLICT_FLOOR = 1e-8


def drop_conflicts(
    mode: Literal["hard", "snr"] = "hard", *, tau: float = 0.2, keep_ratio: bool = False
) -> AdvantageTransform:
    """Masks samples with conflicting z-scores, so that later stages do not see them; advantage 0.

    Conflict: some z_k > 1e-8 and some z_k < -1e-8. "hard" drops every conflict; "snr" only those
    with `|rho| < tau`, `rho = sum z / (sum |z| + 1e-8)` (the authors' code: 0.2, tool calling 0.8).
    keep_ratio multiplies a group by its share of kept samples. Put it between the normalisation of
    the single rewards and combine(); the batch is then normalised over kept samples only. The
    authors' code whitens over tokens; here that is the choice of `batch_normalize`.
    """
    if mode not in ("hard", "snr"):
        raise UserError(f'drop_conflicts({mode!r}): the mode is "hard" or "snr"')

    def update(flow: Flow) -> Flow:
        if flow.combined:
            raise UserError("drop_conflicts() must stand before combine()")
        terms = jnp.where(flow.valid, flow.values, 0)
        drop = jnp.any(terms > CONFLICT_FLOOR, axis=REWARD_AXIS, keepdims=True)
        drop &= jnp.any(terms < -CONFLICT_FLOOR, axis=REWARD_AXIS, keepdims=True)
        if mode == "snr":
            total = jnp.sum(terms, axis=REWARD_AXIS, keepdims=True)
            size = jnp.sum(jnp.abs(terms), axis=REWARD_AXIS, keepdims=True)
            drop &= jnp.abs(total) < tau * (size + 1e-8)
        present = jnp.any(flow.valid, axis=REWARD_AXIS, keepdims=True)
        kept = present & ~drop
        voters = jnp.sum(present, axis=1, keepdims=True, dtype=terms.dtype)
        share = jnp.sum(kept, axis=1, keepdims=True, dtype=terms.dtype) / jnp.maximum(voters, 1)
        dropped = 1 - jnp.sum(kept) / jnp.maximum(jnp.sum(present), 1)
        flow = with_metrics(flow, {"advantage/dropped_conflicts": dropped})
        return dataclasses.replace(
            flow,
            values=terms * share if keep_ratio else terms,
            valid=flow.valid & kept,
        )

    return stateless(update, named("drop_conflicts", mode=mode, tau=tau, keep_ratio=keep_ratio))
