"""Two policies over the completions of a prompt: free logits, and a small network."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from experiments.reward_design.tasks import Tables
from gdpo_jax.errors import UserError

PolicyName = Literal["table", "network"]
HIDDEN = 32


class SoftmaxPolicy(NamedTuple):
    """init: (key, tables) -> parameters. logits: (parameters, tables) -> `[P, C]`."""

    init: Callable[[PRNGKeyArray, Tables], Any]
    logits: Callable[[Any, Tables], Float[Array, "P C"]]


def table_policy() -> SoftmaxPolicy:
    """One free logit per prompt and completion, all zero at the start: nothing is shared."""

    def init(key: PRNGKeyArray, tables: Tables) -> dict[str, Array]:
        return {"logits": jnp.zeros(tables.rewards.shape[:2], jnp.float32)}

    return SoftmaxPolicy(init, lambda params, tables: params["logits"])


def network_policy() -> SoftmaxPolicy:
    """One hidden layer over a completion's features: what one prompt teaches changes the others."""

    def init(key: PRNGKeyArray, tables: Tables) -> dict[str, Array]:
        first, last = jax.random.split(key)
        width = tables.features.shape[-1]
        return {
            "hidden": jax.random.normal(first, (width, HIDDEN), jnp.float32) / width**0.5,
            "bias": jnp.zeros((HIDDEN,), jnp.float32),
            "out": 0.1 * jax.random.normal(last, (HIDDEN,), jnp.float32) / HIDDEN**0.5,
        }

    def logits(params: dict[str, Array], tables: Tables) -> Float[Array, "P C"]:
        hidden = jnp.tanh(tables.features @ params["hidden"] + params["bias"][None, None, :])
        return hidden @ params["out"]

    return SoftmaxPolicy(init, logits)


POLICIES: dict[str, Callable[[], SoftmaxPolicy]] = {
    "table": table_policy,
    "network": network_policy,
}


def policy_named(name: str) -> SoftmaxPolicy:
    """The policy of that name. Raises UserError with the legal names."""
    if name not in POLICIES:
        raise UserError(f"unknown policy {name!r}; legal: {', '.join(POLICIES)}")
    return POLICIES[name]()


__all__ = ["PolicyName", "SoftmaxPolicy", "network_policy", "policy_named", "table_policy"]
