"""Per-token estimators of KL(policy, reference) (Schulman, "Approximating KL divergence", 2020).

`delta = ref - lp` is clamped to [-limit, limit], as verl and NeMo-RL do.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdpo_jax.errors import UserError
from gdpo_jax.objectives.shapes import check_shapes

KLEstimator = Literal["k1", "k2", "k3", "abs", "k3+"]
KL_ESTIMATORS = ("k1", "k2", "k3", "abs", "k3+")


def kl_estimate(
    log_probs: Float[Array, "*shape"],
    ref_log_probs: Float[Array, "*shape"],
    *,
    estimator: KLEstimator = "k3",
    limit: float = 20.0,
    cap: float | None = None,
) -> Float[Array, "*shape"]:
    """One number per token; `cap` bounds its size (verl and NeMo-RL: 10 on k3).

    "k1": `-delta`; unbiased, but its expected gradient in a loss is zero on-policy: for logging and
    for rewards. "k2": `delta^2 / 2`; its gradient is that of KL(policy, ref) in expectation.
    "k3": `exp(delta) - delta - 1`; unbiased, never negative, its gradient that of KL(ref, policy).
    "abs": `|delta|`. "k3+": value of k3, gradient of k2 (straight-through).
    Raises UserError for another name, and for shapes that differ.
    """
    if estimator not in KL_ESTIMATORS:
        raise UserError(f"unknown KL estimator {estimator!r}; known: {list(KL_ESTIMATORS)}")
    check_shapes(log_probs=log_probs, ref_log_probs=ref_log_probs)
    delta = jnp.clip(ref_log_probs - log_probs, -limit, limit)
    if estimator == "k1":
        value = -delta
    elif estimator == "k2":
        value = delta * delta / 2
    elif estimator == "abs":
        value = absolute(delta)
    else:
        # expm1 keeps the small KL of a small delta; exp(delta) - 1 would cancel it away.
        value = jnp.expm1(delta) - delta
        if estimator == "k3+":
            gradient = delta * delta / 2
            value = gradient + jax.lax.stop_gradient(value - gradient)
    return value if cap is None else jnp.clip(value, -cap, cap)


def absolute(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`|x|` with gradient 0 at 0, where `jnp.abs` has 1: a policy that has not moved yet must not
    be pushed.
    """
    return x * jax.lax.stop_gradient(jnp.sign(x))


def importance_weighted(
    kl: Float[Array, "*shape"], log_weight: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """`r * kl`: unbiased off-policy, and on-policy it restores the score-function part of the
    gradient.

    TRL `use_bias_correction_kl` (DeepSeek-V3.2, arXiv 2512.02556); with `log_weight = lp - sg(lp)`
    it is NeMo-RL's form of value 1 (arXiv 2506.09477).
    """
    check_shapes(kl=kl, log_weight=log_weight)
    return jnp.exp(log_weight) * kl
