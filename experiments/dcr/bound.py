"""Proposition 1 of DCR (arXiv 2603.03323) with its terms: the learning kernel of two prompts is
bounded by how similar their states behind layer l are, and by what is trained behind layer l.

    ||K(x', x)||_F <= c h'^T Q h + sqrt(c) tau (||G'||_F + ||G||_F) + tau^2 + Delta(x', x)

The body of the paper was not at hand, so this is our reading, for which the inequality holds on
every pair. z are the logits of the first token, theta the parameters up to layer l, phi those
trained behind it (the tail), h a prompt's state behind layer l, at its last token.

- `c = max_x ||dz/dH||_2^2`, H the states of all tokens behind layer l: the tail's sensitivity.
- `G = (dz/dtheta) / sqrt(c)`: the gradient that reaches theta through the tail.
- `tau = max_x ||dz/dphi||_F`: the size of the tail's own gradients; 0 where the tail is frozen.
- `Q = q I`, `q` the least-squares slope of `||K_theta(x', x)||_F / c` over `h' . h`, at least 0:
  local linearity, by which the kernel of the parameters up to l is that of features h.
- `Delta`: what `||K_theta(x', x)||_F` has above `c q h' . h`, at least 0.

Proof: `K = K_theta + K_phi`; the first is at most `c q h' . h + Delta` by the choice of Delta, and
the second at most `||dz'/dphi||_F ||dz/dphi||_F <= tau^2`. The term in the middle is at least 0; it
would be needed if both parts of the Jacobian overlapped.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.dcr.kernel import (
    Outputs,
    PromptRows,
    first_token_logits,
    jacobian_kernel_norms,
    prompt_rows,
)
from experiments.dcr.refinement import refined_mask
from gdpo_jax.errors import UserError
from gdpo_jax.policies import Policy, join_params, layer_states, pooled, split_params
from gdpo_jax.policies.partial import checked_mask
from gdpo_jax.prompts import Prompt
from gdpo_jax.recipe import Model

__all__ = ["BoundTerms", "proposition_terms"]


@dataclasses.dataclass(frozen=True)
class BoundTerms:
    """Both sides of the inequality for all pairs of prompts, x' in rows and x in columns.

    kernel: `||K(x', x)||_F`. sensitivity: c. slope: q. tail: tau. features, crossing, remainder:
    the first, second and last term; `tail**2` is the third.
    """

    kernel: Float[np.ndarray, "N N"]
    sensitivity: float
    slope: float
    tail: float
    features: Float[np.ndarray, "N N"]
    crossing: Float[np.ndarray, "N N"]
    remainder: Float[np.ndarray, "N N"]

    @property
    def bound(self) -> Float[np.ndarray, "N N"]:
        """The right side."""
        return self.features + self.crossing + self.tail**2 + self.remainder


def proposition_terms(
    model: Model,
    prompts: Sequence[Prompt],
    *,
    layer: int,
    tail_trained: bool = False,
    top_k: int | None = 10,
    batch_size: int = 8,
) -> BoundTerms:
    """The terms of Proposition 1 at a layer, with the tail frozen or trained.

    A tied embedding, before the layer and behind it at once, counts as frozen. top_k, batch_size
    and errors: as for `kernel_norms`; adapters are to be merged first (UserError).
    """
    policy, params = model.policy, model.params
    if policy.trained is not None:
        raise UserError("merge the adapters first: model.merged()")
    programs = _programs(policy, layer)
    rows = prompt_rows(model, prompts, top_k=top_k)
    theta, phi, fixed = programs.parts(params)
    each = [jax.tree.map(lambda leaf: leaf[i], rows) for i in range(len(prompts))]  # noqa: B023
    states = [programs.states(params, row) for row in each]
    spectral = (programs.spectral(own, params, row) for (own, _), row in zip(states, each))
    c = max(map(float, spectral)) ** 2
    reaching = np.array([float(programs.size_of_theta(theta, (phi, fixed), row)) for row in each])
    tau = 0.0
    if tail_trained:
        tau = max(float(programs.size_of_phi(phi, (theta, fixed), row)) for row in each)
    of_lower = jacobian_kernel_norms(
        programs.of_theta, theta, (phi, fixed), rows, batch_size=batch_size
    )
    kernel = of_lower
    if tail_trained:
        kernel = jacobian_kernel_norms(
            programs.of_both, (theta, phi), fixed, rows, batch_size=batch_size
        )
    features = np.stack([np.asarray(last, np.float64) for _, last in states])
    products = features @ features.T
    slope = max(0.0, float((products * of_lower).sum() / (c * (products**2).sum())))
    term = c * slope * products
    return BoundTerms(
        kernel=kernel,
        sensitivity=c,
        slope=slope,
        tail=tau,
        features=term,
        crossing=tau * (reaching[:, None] + reaching[None, :]),
        remainder=np.maximum(0.0, of_lower - term),
    )


class _Programs(NamedTuple):
    """What the terms are computed by, for every model of one policy."""

    parts: Callable[..., tuple[Any, Any, Any]]  # theta, phi, and what is frozen in any case
    of_theta: Outputs  # by theta, the others being (phi, fixed)
    of_both: Outputs  # by (theta, phi), the others being fixed
    size_of_theta: Callable[..., Float[Array, ""]]
    size_of_phi: Callable[..., Float[Array, ""]]
    spectral: Callable[..., Float[Array, ""]]
    states: Callable[..., tuple[Array, Array]]  # behind the layer: of all tokens, and of the last


# Kept, so that several models of one policy compile each program once.
@functools.lru_cache(maxsize=8)
def _programs(policy: Policy, layer: int) -> _Programs:
    lower = checked_mask(
        jax.eval_shape(policy.init, jax.random.key(0)), refined_mask(policy, layer)
    )

    def parts(params: Any) -> tuple[Any, Any, Any]:
        split = split_params(params, lower)
        # What is frozen in any case: a tied embedding.
        fixed = {name: leaf for name, leaf in split["frozen"].items() if name == "embedding"}
        phi = {name: leaf for name, leaf in split["frozen"].items() if name not in fixed}
        return split["trained"], phi, fixed

    def of_both(trained: Any, others: Any, row: PromptRows) -> Float[Array, "K"]:
        whole = join_params({"trained": trained[0], "frozen": {**trained[1], **others}}, lower)
        return first_token_logits(policy, whole, row)

    def of_theta(trained: Any, others: Any, row: PromptRows) -> Float[Array, "K"]:
        return of_both((trained, others[0]), others[1], row)

    def of_phi(trained: Any, others: Any, row: PromptRows) -> Float[Array, "K"]:
        return of_both((others[0], trained), others[1], row)

    def of_states(states: Array, others: Any, row: PromptRows) -> Float[Array, "K"]:
        _, behind = policy.split_layers(others, layer)
        return first_token_logits(policy, others, row._replace(prompts=states), behind=behind)

    def states(params: Any, row: PromptRows) -> tuple[Array, Array]:
        found = layer_states(policy, params, row.prompts[None], row.lengths[None], layer)
        return found[0], pooled(found, row.lengths[None], "last")[0]

    return _Programs(
        parts=jax.jit(parts),
        of_theta=of_theta,
        of_both=of_both,
        size_of_theta=_sizes(of_theta),
        size_of_phi=_sizes(of_phi),
        spectral=jax.jit(functools.partial(_spectral_norm, of_states)),
        states=jax.jit(states),
    )


def _sizes(outputs: Any) -> Any:
    """`||J||_F` of `outputs` by its first argument, one row of J at a time."""

    @jax.jit
    def size(trained: Any, others: Any, row: PromptRows) -> Float[Array, ""]:
        made, pull = jax.vjp(lambda part: outputs(part, others, row), trained)

        def squares(way: Array) -> Array:
            leaves = jax.tree.leaves(pull(way))
            return sum((jnp.sum(jnp.square(leaf)) for leaf in leaves), jnp.zeros((), jnp.float32))

        return jnp.sqrt(jnp.sum(jax.lax.map(squares, jnp.eye(made.size, dtype=made.dtype))))

    return size


def _spectral_norm(outputs: Any, states: Array, others: Any, row: PromptRows) -> Float[Array, ""]:
    """`||J||_2` of `outputs` by the states."""
    made, pull = jax.vjp(lambda part: outputs(part, others, row), states)
    ways = jnp.eye(made.size, dtype=made.dtype)
    jacobian = jax.lax.map(lambda way: pull(way)[0].reshape(-1), ways).astype(jnp.float32)
    return jnp.linalg.norm(jacobian, ord=2)
