"""Contrastive losses against float64 references, worked numbers and closed-form gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import circle_loss, info_nce, supervised_contrastive, triplet_loss

LOSSES = {
    "circle": functools.partial(circle_loss, margin=0.25, scale=8.0),
    "info_nce": functools.partial(info_nce, temperature=0.3),
    "supervised": functools.partial(supervised_contrastive, temperature=0.3),
    "triplet": functools.partial(triplet_loss, margin=0.9),
}
COMPILED = {name: jax.jit(loss) for name, loss in LOSSES.items()}
RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(7, 4))
LABELS = np.array([0, 0, 0, 1, 1, 2, 2])


def units(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def anchor_loss(name, positives, negatives, fixed=None):
    """Of one anchor in float64, written as in the papers; `fixed`: weights of circle loss."""
    p, n = np.asarray(positives), np.asarray(negatives)
    if name == "circle":
        a_p, a_n = fixed or (np.maximum(0, 1.25 - p), np.maximum(0, n + 0.25))
        of_n = np.exp(8 * a_n * (n - 0.25)).sum()
        return np.log1p(of_n * np.exp(-8 * a_p * (p - 0.75)).sum())
    if name == "triplet":
        return max(0.0, 0.9 + (2 - 2 * p.min()) - (2 - 2 * n.max()))
    e_p, e_n = np.exp(p / 0.3), np.exp(n / 0.3).sum()
    below = e_p + e_n if name == "info_nce" else e_p.sum() + e_n
    return -np.log(e_p / below).mean()


def reference(name, rows, labels, valid=None, fixed=None):
    valid = np.ones(len(rows), bool) if valid is None else valid
    similar, losses = units(rows) @ units(rows).T, []
    for i in np.flatnonzero(valid):
        others = [j for j in np.flatnonzero(valid) if j != i]
        p = [j for j in others if labels[j] == labels[i]]
        n = [j for j in others if labels[j] != labels[i]]
        if p and n:
            own = None if fixed is None else (fixed[0][i, p], fixed[1][i, n])
            losses.append(anchor_loss(name, similar[i, p], similar[i, n], own))
    return np.mean(losses) if losses else 0.0


def value(name, rows, labels, valid=None):
    given = None if valid is None else jnp.asarray(valid)
    return COMPILED[name](jnp.asarray(rows, jnp.float32), jnp.asarray(labels, jnp.int32), given)


@pytest.mark.parametrize(
    ("s_p", "s_n", "expected"), [(1.0, -0.4, 2.7607e-6), (0.5, 0.5, 14.400001)]
)
def test_worked_numbers_of_circle_loss(s_p, s_n, expected):
    """An anchor with one positive and one negative; the positive's own loss is not looked at."""
    u, v = np.array([1.0, 0, 0]), np.array([s_p, (1 - s_p**2) ** 0.5, 0])
    w = np.array([s_n, 0, (1 - s_n**2) ** 0.5])
    rows, labels = jnp.asarray(np.stack([u, v, w]), jnp.float32), jnp.array([0, 0, 1])
    # The second row sees the same positive and the negative at s_p s_n.
    other = v @ w
    weights = max(0, 1.4 - s_p), max(0, other + 0.4)
    second = np.logaddexp(0, 80 * weights[1] * (other - 0.4) - 80 * weights[0] * (s_p - 0.6))
    found = jax.jit(circle_loss)(rows, labels)
    np.testing.assert_allclose(2 * float(found) - second, expected, rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("valid", [None, np.array([1, 1, 0, 1, 1, 1, 0], bool)])
def test_values_are_those_of_the_reference(name, valid):
    expected = reference(name, ROWS, LABELS, valid)
    np.testing.assert_allclose(value(name, ROWS, LABELS, valid), expected, rtol=2e-6)


def test_gradients_of_circle_loss_are_the_published_ones():
    """Sun et al., equation 9: -g a_p and g a_n times the softmax of each side and the sigmoid, with
    the weights a held fixed."""
    u, g, m = units(ROWS), 8.0, 0.25
    s = u @ u.T
    of_s, kept = np.zeros_like(s), 0
    for i, label in enumerate(LABELS):
        p = np.flatnonzero((label == LABELS) & (np.arange(len(LABELS)) != i))
        n = np.flatnonzero(label != LABELS)
        a_p, a_n = np.maximum(0, 1 + m - s[i, p]), np.maximum(0, s[i, n] + m)
        e_p, e_n = np.exp(-g * a_p * (s[i, p] - 1 + m)), np.exp(g * a_n * (s[i, n] - m))
        sigmoid = 1 - 1 / (1 + e_p.sum() * e_n.sum())
        of_s[i, p] += -g * a_p * sigmoid * e_p / e_p.sum()
        of_s[i, n] += g * a_n * sigmoid * e_n / e_n.sum()
        kept += 1
    of_units = (of_s + of_s.T) @ u / kept
    along = np.sum(of_units * u, axis=1, keepdims=True)
    expected = (of_units - along * u) / np.linalg.norm(ROWS, axis=1, keepdims=True)
    found = jax.grad(lambda x: value("circle", x, LABELS))(jnp.asarray(ROWS, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_differences(name):
    s = units(ROWS) @ units(ROWS).T
    fixed = (np.maximum(0, 1.25 - s), np.maximum(0, s + 0.25)) if name == "circle" else None
    step, expected = 1e-6, np.zeros_like(ROWS)
    for at in np.ndindex(ROWS.shape):
        moved = np.zeros_like(ROWS)
        moved[at] = step
        above, below = (reference(name, ROWS + k * moved, LABELS, fixed=fixed) for k in (1, -1))
        expected[at] = (above - below) / (2 * step)
    found = jax.grad(lambda x: value(name, x, LABELS))(jnp.asarray(ROWS, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-6)
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("labels", "valid"),
    [([0, 0, 0, 0], [1, 1, 1, 1]), ([0, 1, 2, 3], [1, 1, 1, 1]), ([0, 0, 1, 1], [0, 0, 0, 0])],
    ids=["no negatives", "no positives", "no rows"],
)
def test_without_anchors_loss_and_gradient_are_zero(name, labels, valid):
    loss, gradient = jax.value_and_grad(lambda x: value(name, x, labels, np.array(valid, bool)))(
        jnp.asarray(ROWS[:4], jnp.float32)
    )
    assert float(loss) == 0
    np.testing.assert_array_equal(gradient, np.zeros((4, 4)))


@pytest.mark.parametrize("name", LOSSES)
def test_no_nan_from_zero_rows_equal_rows_and_invalid_rows(name):
    rows = np.array([[0, 0], [1, 2], [1, 2], [1, 2], [np.nan, np.inf]])
    valid = np.array([1, 1, 1, 1, 0], bool)
    loss, gradient = jax.value_and_grad(lambda x: value(name, x, [0, 0, 1, 1, 1], valid))(
        jnp.asarray(rows, jnp.float32)
    )
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[jnp.array([0, 4])], np.zeros((2, 2)))


def test_a_large_scale_overflows_nothing():
    rows = jnp.array([[1.0, 0], [-1, 1e-3], [1, 1e-3], [-1, 0]])
    loud = jax.jit(jax.value_and_grad(functools.partial(circle_loss, scale=256.0)))
    loss, gradient = loud(rows, jnp.array([0, 0, 1, 1]))
    assert 256 < float(loss) < 2000
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_compiled_and_batched_equal_the_plain_one(name):
    several = jnp.asarray(RNG.normal(size=(3, 7, 4)), jnp.float32)
    labels = jnp.asarray(np.stack([LABELS, LABELS[::-1], np.zeros(7)]), jnp.int32)
    valid = jnp.asarray(RNG.random((3, 7)) < 0.8)
    one_by_one = [LOSSES[name](*each) for each in zip(several, labels, valid)]
    batched = jax.jit(jax.vmap(lambda *x: LOSSES[name](*x)))(several, labels, valid)
    np.testing.assert_allclose(batched, one_by_one, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_short_floats_are_computed_in_float32(name):
    short = jnp.asarray(ROWS, jnp.bfloat16)
    of_short = jax.jit(jax.value_and_grad(LOSSES[name]))
    loss, gradient = of_short(short, jnp.asarray(LABELS, jnp.int32))
    assert loss.dtype == jnp.float32
    assert gradient.dtype == jnp.bfloat16
    # Up to the rounding of another program; in bfloat16 it would differ by some 1e-3.
    whole = float(value(name, short.astype(jnp.float32), LABELS))
    assert float(loss) == pytest.approx(whole, rel=2e-6)


BATCHES = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=12, deadline=None)
@given(draw=BATCHES)
def test_order_names_scale_and_masked_rows_change_nothing(name, draw):
    rows, labels = draw.normal(size=(6, 3)), draw.integers(0, 3, 6)
    expected = value(name, rows, labels)
    order = draw.permutation(6)
    same = {
        "order": value(name, rows[order], labels[order]),
        "names": value(name, rows, 7 - labels),
        "lengths": value(name, rows * draw.uniform(0.1, 9, (6, 1)), labels),
        "masked": value(
            name,
            np.concatenate([rows, draw.normal(size=(2, 3))]),
            np.concatenate([labels, draw.integers(0, 3, 2)]),
            np.arange(8) < 6,
        ),
    }
    for what, found in same.items():
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-6, err_msg=what)


@pytest.mark.parametrize("name", ["info_nce", "triplet"])
@settings(max_examples=8, deadline=None)
@given(draw=BATCHES)
def test_copies_of_positives_are_pairs_of_their_own(name, draw):
    """Every row twice: the reference counts each of the pairs once per anchor, and so do we."""
    rows, labels = draw.normal(size=(4, 3)), np.array([0, 0, 1, 1])
    twice = np.concatenate([rows, rows]), np.concatenate([labels, labels])
    np.testing.assert_allclose(value(name, *twice), reference(name, *twice), rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: circle_loss(x[0], y), "N,? D"),
        (lambda x, y: circle_loss(x, y[:3]), "labels"),
        (lambda x, y: circle_loss(x, y, jnp.ones(3, bool)), "valid"),
        (lambda x, y: circle_loss(x, y, scale=0.0), "scale"),
        (lambda x, y: circle_loss(x, y, margin=float("nan")), "margin"),
        (lambda x, y: info_nce(x, y, temperature=-1.0), "temperature"),
        (lambda x, y: supervised_contrastive(x, y, temperature=0.0), "temperature"),
        (lambda x, y: triplet_loss(x, y, margin=float("inf")), "margin"),
    ],
)
def test_wrong_input_is_named(call, message):
    # The second one where annotations are checked, which see a wrong shape first.
    with pytest.raises((UserError, TypeCheckError), match=message):
        call(jnp.asarray(ROWS, jnp.float32), jnp.asarray(LABELS, jnp.int32))
