"""The objective as a whole: micro-batches add up, metrics, devices, messages for bad input."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.sharding import AxisType

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import (
    Metrics,
    ObjectiveConfig,
    SamplerCorrection,
    aggregate,
    cispo_surrogate,
    clipped_surrogate,
    count_denominators,
    covariance_tokens,
    importance_weighted,
    join_metrics,
    kl_estimate,
    log_importance,
    mask_unfinished,
    mismatch_metrics,
    mismatch_weights,
    policy_objective,
    pooled_mean,
    reinforce_surrogate,
    sapo_surrogate,
    sequence_kl,
    spread_to_tokens,
    stale_sequence_weights,
    top_entropy_tokens,
)

N, C = 8, 6
RNG = np.random.default_rng(11)
LENGTHS = np.array([6, 3, 1, 0, 5, 6, 2, 4])
MASK = np.arange(C)[None] < LENGTHS[:, None]
LOG_PROBS = -RNG.uniform(0.2, 3, (N, C)).astype(np.float32)
INPUTS = {
    "log_probs": LOG_PROBS,
    "old_log_probs": LOG_PROBS + RNG.normal(0, 0.4, (N, C)).astype(np.float32),
    "ref_log_probs": LOG_PROBS + RNG.normal(0, 0.4, (N, C)).astype(np.float32),
    "advantages": RNG.normal(size=(N, C)).astype(np.float32),
    "mask": MASK,
    "segment_ids": RNG.integers(-1, 3, (N, C)),
    "entropy": RNG.uniform(0, 2, (N, C)).astype(np.float32),
}
INPUTS["sampled_log_probs"] = INPUTS["old_log_probs"] + RNG.normal(0, 0.3, (N, C)).astype(
    np.float32
)
CONFIG = ObjectiveConfig(
    level="segment",
    kl="k3",
    kl_coef=0.1,
    entropy_coef=0.01,
    dual_clip=3.0,
    max_segments=4,
    correction=SamplerCorrection(highest=1.3),
)


def counts(mask=MASK, segment_ids=INPUTS["segment_ids"]):
    return count_denominators(jnp.asarray(mask), jnp.asarray(segment_ids), max_segments=4)


@jax.jit
def value_and_gradient(inputs, denominators):
    def loss(log_probs):
        return policy_objective(
            CONFIG, **(inputs | {"log_probs": log_probs}), denominators=denominators
        )

    return jax.value_and_grad(loss, has_aux=True)(inputs["log_probs"])


def test_micro_batches_add_up():
    (loss, metrics), gradient = value_and_gradient(INPUTS, counts())
    total, found, parts = 0.0, [], []
    for start in range(0, N, 2):
        part = {name: x[start : start + 2] for name, x in INPUTS.items()}
        (value, of_part), grad = value_and_gradient(part, counts())
        total, parts = total + float(value), parts + [np.asarray(grad)]
        found.append(of_part)
    np.testing.assert_allclose(total, loss, rtol=1e-6)
    np.testing.assert_allclose(np.concatenate(parts), gradient, atol=1e-7)
    merged = jax.tree.map(lambda *x: jnp.stack(x), *found).over_micro_batches()
    assert merged.as_dict().keys() == metrics.as_dict().keys()
    for name, value in metrics.as_dict().items():
        np.testing.assert_allclose(merged[name], value, atol=1e-6, err_msg=name)


def test_eager_jit_and_vmap_agree():
    def loss(inputs):
        return policy_objective(CONFIG, **inputs, denominators=counts())

    two = {name: np.stack([x, np.roll(x, 1, axis=0)]) for name, x in INPUTS.items()}
    compiled, mapped = jax.jit(loss)(INPUTS), jax.jit(jax.vmap(loss))(two)
    eager = loss({name: jnp.asarray(x) for name, x in INPUTS.items()})
    for a, b, c in zip(*map(jax.tree.leaves, (compiled, eager, mapped)), strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(c[0], a, rtol=2e-6, atol=1e-7)


def test_the_correction_is_the_weight_of_the_surrogate_alone():
    keep = ("log_probs", "old_log_probs", "advantages", "mask", "ref_log_probs")
    inputs = {name: jnp.asarray(INPUTS[name]) for name in keep}
    sampled = jnp.asarray(INPUTS["sampled_log_probs"])
    inside = {"old_log_probs": inputs["old_log_probs"], "sampled_log_probs": sampled}
    for rule in (
        {"highest": 1.3},
        {"mode": "mask", "lowest": 0.8, "highest": 1.2},
        {"level": "sequence", "highest": 1.0},
        {"level": "geometric", "mode": "mask", "lowest": 0.95, "highest": 1.05},
    ):
        config = ObjectiveConfig(kl="k3", kl_coef=0.2, correction=SamplerCorrection(**rule))
        plain = ObjectiveConfig(kl="k3", kl_coef=0.2)
        weights = mismatch_weights(**inside, mask=inputs["mask"], **rule)

        @jax.jit
        def both(weights, config=config, plain=plain):
            own = policy_objective(
                config, **inputs, sampled_log_probs=sampled, denominators=counts()
            )
            other = policy_objective(plain, **inputs, policy_weights=weights, denominators=counts())
            return own, other

        (loss, metrics), (expected, others) = both(weights)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        np.testing.assert_allclose(metrics["loss/kl"], others["loss/kl"], rtol=1e-6)
        np.testing.assert_allclose(metrics["rollout/weight_mean"], weights[MASK].mean(), rtol=1e-5)
        assert 0 < metrics["rollout/outside_mean"] < 1


@pytest.mark.parametrize(
    ("config", "low", "high"),
    [
        (ObjectiveConfig(surrogate="cispo", cispo_highest=1.3), 0.0, 1.3),
        (ObjectiveConfig(surrogate="cispo", cispo_lowest=0.7, cispo_highest=1.3), 0.7, 1.3),
        (ObjectiveConfig(surrogate="sapo"), 0.0, np.inf),
        (ObjectiveConfig(surrogate="reinforce"), 0.0, np.inf),
    ],
)
def test_the_clip_metrics_are_those_of_the_surrogate_in_use(config, low, high):
    keep = ("log_probs", "old_log_probs", "advantages", "mask")
    inputs = {name: jnp.asarray(INPUTS[name]) for name in keep}
    _, metrics = jax.jit(lambda x: policy_objective(config, **x, denominators=counts()))(inputs)
    ratio = np.exp(INPUTS["log_probs"] - INPUTS["old_log_probs"])[MASK]
    a = INPUTS["advantages"][MASK]
    np.testing.assert_allclose(metrics["clip_ratio/low_mean"], ((ratio < low) & (a < 0)).mean())
    np.testing.assert_allclose(
        metrics["clip_ratio/high_mean"], ((ratio > high) & (a > 0)).mean(), rtol=1e-6
    )


def test_padding_changes_nothing():
    padded = {
        name: np.pad(x, ((0, 3), (0, 2)), constant_values=0 if x.dtype == bool else 1)
        for name, x in INPUTS.items()
    }
    (loss, _), gradient = value_and_gradient(INPUTS, counts())
    (same, _), other = value_and_gradient(padded, counts(padded["mask"], padded["segment_ids"]))
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(other)[:N, :C], gradient, atol=1e-7)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_sharded_over_eight_devices(axis_type):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    sharded = jax.device_put(INPUTS, jax.NamedSharding(mesh, jax.P("data")))
    denominators = jax.device_put(counts(), jax.NamedSharding(mesh, jax.P()))
    (loss, metrics), gradient = value_and_gradient(INPUTS, counts())
    (same, others), other = value_and_gradient(sharded, denominators)
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    np.testing.assert_allclose(other, gradient, atol=1e-7)
    for name, value in metrics.as_dict().items():
        np.testing.assert_allclose(others[name], value, atol=1e-6, err_msg=name)


def test_metrics_against_numpy():
    config = ObjectiveConfig(kl="k3", kl_coef=0.5, aggregation="grpo", clip_high=0.28)
    skipped = ("segment_ids", "sampled_log_probs")
    inputs = {k: v for k, v in INPUTS.items() if k not in skipped}
    loss, metrics = jax.jit(
        lambda x: policy_objective(config, **x, denominators=count_denominators(x["mask"]))
    )(inputs)
    m = MASK
    d = (INPUTS["log_probs"] - INPUTS["old_log_probs"]).astype(np.float64)
    a, ratio = INPUTS["advantages"].astype(np.float64), np.exp(d)
    delta = (INPUTS["ref_log_probs"] - INPUTS["log_probs"]).astype(np.float64)
    k3 = np.exp(delta) - delta - 1
    surrogate = -np.minimum(ratio * a, np.clip(ratio, 0.8, 1.28) * a)
    weight = m / np.maximum(LENGTHS, 1)[:, None] / (LENGTHS > 0).sum()
    low, high = (ratio < 0.8) & (a < 0) & m, (ratio > 1.28) & (a > 0) & m
    alive = LENGTHS > 0
    expected = {
        "loss/policy": (surrogate * weight).sum(),
        "loss/kl": 0.5 * (k3 * weight).sum(),
        "loss/total": ((surrogate + 0.5 * k3) * weight).sum(),
        "kl/k1": -delta[m].mean(),
        "kl/k3": k3[m].mean(),
        "kl/old": -d[m].mean(),
        "entropy": INPUTS["entropy"][m].mean(),
        "ratio/mean": ratio[m].mean(),
        "ratio/min": ratio[m].min(),
        "ratio/max": ratio[m].max(),
        "clip_ratio/low_mean": low[m].mean(),
        "clip_ratio/low_min": (low.sum(1)[alive] / LENGTHS[alive]).min(),
        "clip_ratio/high_mean": high[m].mean(),
        "clip_ratio/high_max": (high.sum(1)[alive] / LENGTHS[alive]).max(),
        "clip_ratio/region_mean": (low | high)[m].mean(),
        "advantage/token_abs_mean": np.abs(a[m]).mean(),
    }
    assert metrics.as_dict().keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(loss, expected["loss/total"], atol=1e-6)


def test_first_update_has_no_clipping_and_a_gradient():
    inputs = INPUTS | {"old_log_probs": INPUTS["log_probs"]}
    (_, metrics), gradient = value_and_gradient(inputs, counts())
    assert metrics["ratio/min"] == metrics["ratio/max"] == 1
    assert metrics["clip_ratio/region_mean"] == 0
    assert np.any(np.asarray(gradient) != 0)


def test_policy_weights_scale_the_surrogate_but_not_the_kl():
    config = ObjectiveConfig(kl="k3", kl_coef=0.5)
    skipped = ("segment_ids", "entropy", "sampled_log_probs")
    inputs = {k: jnp.asarray(v) for k, v in INPUTS.items() if k not in skipped}
    compute = jax.jit(
        lambda w: policy_objective(
            config, **inputs, policy_weights=w, denominators=count_denominators(inputs["mask"])
        )[1]
    )
    one, half = compute(jnp.ones((N, C))), compute(jnp.full((N, C), 0.5))
    np.testing.assert_allclose(half["loss/policy"], 0.5 * one["loss/policy"], rtol=1e-6)
    np.testing.assert_allclose(half["loss/kl"], one["loss/kl"], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"aggregation": "mean"}, "dr_grpo"),
        ({"aggregation": "dr_grpo"}, "max_length"),
        ({"surrogate": "ppo"}, "clip"),
        ({"level": "word"}, "segment"),
        ({"kl": "k4"}, "k3"),
        ({"kl_coef": 0.1}, "estimator"),
        ({"clip_low": 1.5}, "clip_low=1.5"),
        ({"dual_clip": 0.5}, "dual_clip=0.5"),
        ({"delta": 1.1}, "delta=1.1"),
        ({"max_segments": 0}, "max_segments=0"),
        ({"surrogate": "cispo", "cispo_lowest": 6.0}, "cispo_lowest=6.0"),
        ({"surrogate": "sapo", "sapo_tau_positive": 0.0}, "sapo_tau_positive=0.0"),
        ({"surrogate": "cispo", "clip_high": 0.28}, "clip_high=0.28 belongs to surrogate='clip'"),
        ({"surrogate": "reinforce", "clip_low": 0.1}, "has no ratio"),
        ({"surrogate": "sapo", "delta": 2.0}, "delta=2.0 belongs"),
        ({"surrogate": "cispo", "dual_clip": 3.0}, "dual_clip=3.0 belongs"),
        ({"cispo_highest": 2.0}, "cispo_highest=2.0 belongs to surrogate='cispo'"),
        ({"sapo_tau_negative": 2.0}, "sapo_tau_negative=2.0 belongs to surrogate='sapo'"),
        ({"kl_weighted": True}, "without an estimator"),
        ({"kl_cap": 10.0}, "without an estimator"),
        ({"kl": "k3", "kl_coef": 0.1, "kl_cap": 0.0}, "kl_cap=0.0"),
        ({"kl": "k3", "kl_coef": float("nan")}, "kl_coef is not a number"),
        ({"log_ratio_limit": 0.0}, "log_ratio_limit=0.0"),
    ],
)
def test_a_wrong_config_names_the_field_and_the_way_out(fields, message):
    # Under run-time type checks the literal types refuse a wrong name first, with the same list.
    with pytest.raises((UserError, TypeError), match=message):
        ObjectiveConfig(**fields)


def test_a_missing_input_is_named():
    needed = {
        k: jnp.asarray(INPUTS[k]) for k in ("log_probs", "old_log_probs", "advantages", "mask")
    }
    for config, message in [
        (ObjectiveConfig(kl="k3", kl_coef=0.1), "ref_log_probs"),
        (ObjectiveConfig(level="segment"), "segment_ids"),
        (ObjectiveConfig(aggregation="item_mean"), "segment_ids"),
        (ObjectiveConfig(entropy_coef=0.1), "entropy"),
        (ObjectiveConfig(correction=SamplerCorrection()), "sampled_log_probs"),
    ]:
        with pytest.raises(UserError, match=message):
            policy_objective(config, **needed, denominators=counts())
    with pytest.raises(UserError, match="segment_ids"):
        aggregate(needed["log_probs"], needed["mask"], counts(), aggregation="item_mean")
    with pytest.raises(UserError, match="segment_ids"):
        spread_to_tokens(jnp.zeros((1, 1, 2)), None, jnp.ones((1, 1, 3), bool))


def test_arrays_of_other_shapes_are_refused_by_name_and_not_broadcast():
    """Also without run-time type checks, which say so first where they are on."""
    one, mask = jnp.zeros((4, 4)), jnp.ones((4, 4), bool)
    row, wide = jnp.zeros(4), jnp.zeros((4, 5))
    rules = {"denominators": count_denominators(mask), "mask": mask}
    inputs = {"log_probs": one, "old_log_probs": one, "advantages": one} | rules
    calls = [
        lambda x: policy_objective(ObjectiveConfig(), **(inputs | {"advantages": x})),
        lambda x: policy_objective(ObjectiveConfig(), **inputs, ref_log_probs=x),
        lambda x: policy_objective(ObjectiveConfig(), **inputs, policy_weights=x),
        lambda x: log_importance(one, x, mask),
        lambda x: aggregate(x, **rules),
        lambda x: mismatch_weights(one, x, mask),
        lambda x: mismatch_metrics(one, one, **rules, weights=x),
        lambda x: stale_sequence_weights(one, one, x, mask),
        lambda x: covariance_tokens(one, x, mask),
        lambda x: top_entropy_tokens(x, mask),
        lambda x: sequence_kl(one, x, mask),
        lambda x: kl_estimate(one, x),
        lambda x: importance_weighted(one, x),
        lambda x: clipped_surrogate(one, x),
        lambda x: cispo_surrogate(one, one, x),
        lambda x: sapo_surrogate(one, x),
        lambda x: reinforce_surrogate(one, x),
        lambda x: pooled_mean(x, mask),
        lambda x: mask_unfinished(mask, x[0] > 0),
        lambda x: spread_to_tokens(x, None, jnp.ones((4, 1, 4), bool)),
    ]
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        for call in calls:
            for wrong in (row, wide):
                with pytest.raises(UserError, match="shape"):
                    call(wrong)
        with pytest.raises(UserError, match="mask must be boolean, got float32"):
            policy_objective(ObjectiveConfig(), **(inputs | {"mask": one}))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_metrics_merge_by_their_kind_and_not_by_their_name():
    """Names that end like an extreme, or hold one elsewhere, decide nothing."""
    values = np.array([1.0, 3.0], np.float32)
    metrics = Metrics(
        sums={"reward/prompt_min": values, "argmax": values},
        minima={"lowest": values, "largest_max": values},
        maxima={"highest": values, "smallest_min": values},
    )
    assert metrics.over_micro_batches().as_dict() == {
        "reward/prompt_min": 4,
        "argmax": 4,
        "lowest": 1,
        "largest_max": 1,
        "highest": 3,
        "smallest_min": 3,
    }
    assert metrics.over_updates().as_dict() == {
        "reward/prompt_min": 2,
        "argmax": 2,
        "lowest": 1,
        "largest_max": 1,
        "highest": 3,
        "smallest_min": 3,
    }


def test_metrics_join_unless_a_name_is_taken_or_a_value_is_no_scalar():
    one = Metrics(sums={"a": jnp.ones(())}, maxima={"b": jnp.ones(())})
    assert set(join_metrics(one, Metrics(minima={"c": jnp.ones(())})).as_dict()) == {"a", "b", "c"}
    for other in (Metrics(sums={"a": jnp.ones(())}), Metrics(minima={"b": jnp.ones(())})):
        with pytest.raises(UserError, match="two metrics are named"):
            join_metrics(one, other)
    with pytest.raises(UserError, match=r"'c' must be a scalar, got shape \(2,\)"):
        join_metrics(one, Metrics(sums={"c": jnp.ones(2)}))
