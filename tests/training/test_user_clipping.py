"""One user's part of a step is bounded, noise is drawn once, and the loop is the supervised one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from gdpo_jax.data import user_batches
from gdpo_jax.errors import UserError
from gdpo_jax.training import (
    SFTBatch,
    UserClipping,
    batch_shards,
    make_sft_step,
    process_share,
    to_global,
)
from gdpo_jax.training.user_clipping import (
    clip_to_norm,
    noise_key,
    noisy_mean,
    noisy_user_gradients,
)

C, E = 0.5, 4
CLIPPING = UserClipping(max_norm=C, noise=0.0, rows_per_user=2)
SGD = optax.sgd(1.0)


def mean_of_rows(params, rows):
    """Linear, so that the gradient of a user is the mean of its rows that are there."""
    count = jnp.maximum(jnp.sum(rows["here"].astype(jnp.float32)), 1.0)
    product = rows["a"] @ params["a"] + rows["b"] @ params["b"]
    return jnp.sum(jnp.where(rows["here"], product, 0.0)) / count


@functools.partial(jax.jit, static_argnames=("mesh", "clipping"))
def gradients_on(mesh, batch, clipping):
    params = {"a": jnp.zeros(3), "b": jnp.zeros(2)}
    options = {"clipping": clipping, "expected_users": E, "key": jax.random.key(0), "mesh": mesh}
    here = batch["here"]
    return noisy_user_gradients(toy.POLICY, mean_of_rows, params, batch, here, **options)


def gradients(batch):
    return gradients_on(toy.mesh_of(1), batch, CLIPPING)


def norm_of(tree):
    return np.sqrt(sum(np.sum(np.float64(leaf) ** 2) for leaf in jax.tree.leaves(tree)))


def test_clipping_by_hand():
    # Users with gradients (3, 4), (0.15, 0.2) and none, and one with a row of two.
    rows = np.zeros((8, 3), np.float32)
    rows[0, :2], rows[1, :2] = (2, 5), (4, 3)
    rows[2, :2] = rows[3, :2] = (0.15, 0.2)
    rows[6, 2] = -1.0
    here = np.array([1, 1, 1, 1, 1, 1, 1, 0], bool)
    found, metrics = gradients({"a": rows, "b": np.zeros((8, 2), np.float32), "here": here})
    # (3, 4) becomes (0.3, 0.4), (0, 0, -1) becomes (0, 0, -0.5), and the sum is divided by E.
    np.testing.assert_allclose(found["a"], [0.45 / E, 0.6 / E, -0.5 / E], rtol=1e-6)
    np.testing.assert_array_equal(found["b"], 0)
    named = {name: float(value) for name, value in metrics.as_dict().items()}
    assert named == pytest.approx(
        {"loss": 0.0, "users": 4, "clipped_share": 0.5, "user_norm": (5 + 0.25 + 0 + 1) / 4}
    )


def test_zeros_stay_zeros_and_the_tiniest_gradient_is_not_blown_up():
    clip = jax.jit(functools.partial(clip_to_norm, max_norm=C))
    for value in (0.0, 1e-44, 1e-20, 1e18):
        clipped, _ = clip({"a": np.full(3, value, np.float32), "b": np.zeros((), np.float32)})
        assert np.isfinite(clipped["a"]).all()
        assert norm_of(clipped) <= min(C, np.sqrt(3) * value) * (1 + 1e-6) + 1e-38


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.lists(st.floats(-18, 18), min_size=8, max_size=8),
    kept=st.lists(st.booleans(), min_size=8, max_size=8),
    user=st.integers(0, 3),
)
def test_one_user_changes_a_step_by_at_most_c_over_the_expected_number(seed, scale, kept, user):
    draw = np.random.default_rng(seed)
    size = 10.0 ** np.array(scale)[:, None]
    batch = {
        "a": np.float32(draw.normal(size=(8, 3)) * size),
        "b": np.float32(draw.normal(size=(8, 2)) * size),
    }
    here = np.array(kept)
    here[2 * user] = True
    without = here.copy()
    without[2 * user : 2 * user + 2] = False
    one, _ = gradients({**batch, "here": here})
    other, _ = gradients({**batch, "here": without})
    difference = jax.tree.map(lambda a, b: np.float64(a) - np.float64(b), one, other)
    assert norm_of(difference) <= C / E * (1 + 1e-5)
    # And the rest of the users does not matter to it, since nothing is divided by their number.
    assert norm_of(one) <= 4 * C / E * (1 + 1e-5)


def test_noise_has_the_stated_deviation_and_a_key_of_its_own_for_each_step():
    noisy = dataclasses.replace(CLIPPING, noise=3.0)
    zeros = {"a": jnp.zeros((100, 100)), "b": jnp.zeros(10_000)}
    key = jax.random.key(5)

    def drawn(step):
        return noisy_mean(zeros, noise_key(key, step), clipping=noisy, expected_users=E)

    first, second = drawn(0), drawn(1)
    values = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(first)])
    # s C / E = 0.375; the standard error of a deviation of 20,000 numbers is 0.5%.
    assert np.std(values) == pytest.approx(3.0 * C / E, rel=0.025)
    assert abs(np.mean(values)) < 4 * 0.375 / np.sqrt(20_000)
    for other in (second["a"].ravel(), first["b"]):
        assert abs(np.corrcoef(np.ravel(first["a"]), other)[0, 1]) < 0.05
    toy.assert_same(first, drawn(0))
    quiet = noisy_mean(zeros, key, clipping=CLIPPING, expected_users=E)
    toy.assert_same(quiet, zeros)


def rows_of(mesh, *, people, empty=()):
    """An SFTBatch with two rows for each of the users, those of `empty` without tokens; the first
    ones are the same whatever `people`."""
    draws = [np.random.default_rng([7, row]) for row in range(2 * people)]
    mask = np.array([np.arange(4) < draw.integers(1, 5) for draw in draws])
    mask[[2 * user + row for user in empty for row in (0, 1)]] = False
    batch = SFTBatch(
        prompts=np.array([draw.integers(0, 14, 4) for draw in draws], np.int32),
        prompt_lengths=np.array([draw.integers(1, 5) for draw in draws], np.int32),
        completions=np.array([draw.integers(0, 14, 4) for draw in draws], np.int32),
        completion_mask=mask,
    )
    return to_global(batch, mesh)


def fresh(mesh, optimizer=SGD):
    return toy.fresh_state(mesh, optimizer)


def test_with_one_user_and_no_noise_a_step_on_any_mesh_is_clipped_sgd_on_his_rows():
    one, eight = toy.mesh_of(1), toy.mesh_of(8, fsdp=2)
    plain = optax.chain(optax.clip_by_global_norm(0.05), SGD)
    step = make_sft_step(toy.POLICY, plain, mesh=one, chunk=None)
    expected, metrics = step(fresh(one, plain), rows_of(one, people=1))
    clipping = dataclasses.replace(CLIPPING, max_norm=0.05)
    step = make_sft_step(toy.POLICY, SGD, mesh=eight, chunk=None, users=clipping)
    # The first of sixteen places; the others have rows of padding.
    found, own = step(fresh(eight), rows_of(eight, people=16, empty=range(1, 16)))
    assert (float(own["users"]), float(own["clipped_share"])) == (1, 1)
    np.testing.assert_allclose(own["loss"], metrics["loss"], rtol=1e-5)
    np.testing.assert_allclose(own["user_norm"], metrics["grad_norm"], rtol=1e-5)
    assert float(metrics["grad_norm"]) > 0.05
    assert_close(found.params, expected.params)
    moved = jax.tree.map(np.subtract, toy.as_numpy(found.params), toy.as_numpy(fresh(one).params))
    assert norm_of(moved) == pytest.approx(0.05, rel=1e-3)


def assert_close(one, other):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        toy.as_numpy(one),
        toy.as_numpy(other),
    )


def test_devices_and_users_at_once_change_nothing_and_noise_is_drawn_once():
    draw = np.random.default_rng(3)
    noisy = dataclasses.replace(CLIPPING, noise=2.0)
    here = draw.random(32) < 0.5
    batch = {"a": draw.normal(size=(32, 3)), "b": draw.normal(size=(32, 2))}
    batch = {name: rows.astype(np.float32) for name, rows in batch.items()} | {"here": here}
    expected, numbers = gradients_on(toy.mesh_of(1), batch, noisy)
    meshes = (toy.mesh_of(1), 4), (toy.mesh_of(8), 2), (toy.mesh_of(8, fsdp=2, tensor=2), 1)
    for mesh, at_once in meshes:
        found, own = gradients_on(mesh, batch, dataclasses.replace(noisy, users_at_once=at_once))
        assert_close(found, expected)
        assert_close(own.as_dict(), numbers.as_dict())
    # Nobody in the step: what is left is one draw, as it is without a mesh.
    nobody = {**batch, "here": np.zeros(32, bool)}
    found, own = gradients_on(toy.mesh_of(8), nobody, dataclasses.replace(noisy, users_at_once=2))
    assert (float(own["users"]), float(own["loss"])) == (0, 0)
    zeros = {"a": jnp.zeros(3), "b": jnp.zeros(2)}
    assert_close(found, noisy_mean(zeros, jax.random.key(0), clipping=noisy, expected_users=E))


PEOPLE = [{**record, "user": record["id"] % 5} for record in toy.RECORDS]
PRIVATE = UserClipping(max_norm=0.2, noise=0.1, rows_per_user=2)


def private_run(workdir, mesh, *, steps=6, users=PRIVATE, **changes):
    index, count = process_share(mesh)
    batches = user_batches(
        PEOPLE,
        users=[record["user"] for record in PEOPLE],
        expected_users=1,
        rows_per_user=users.rows_per_user,
        seed=3,
        shards=batch_shards(mesh),
        users_at_once=users.users_at_once,
        process_index=index,
        process_count=count,
    )
    settings = toy.sft_config(steps=steps, batch_size=1)
    arguments = {"records": batches, "users": users, "config": settings} | changes
    return toy.sft(workdir, mesh, **arguments)


def test_a_private_run_goes_on_to_the_same_bits_through_empty_batches(tmp_path):
    mesh = toy.mesh_of(1)
    through = private_run(tmp_path / "through", mesh)
    rows = toy.rows_of(tmp_path / "through")
    users = [row["users"] for row in rows]
    # Each of five users with the chance of a fifth: a third of the batches are empty.
    assert 0 in users and max(users) > 1
    assert all(row["tokens"] == 0 and row["loss"] == 0 for row in rows if not row["users"])
    assert all(row["user_norm"] > 0 for row in rows if row["users"])
    assert all(0 <= row["clipped_share"] <= 1 and row["update_norm"] > 0 for row in rows)
    private_run(tmp_path / "parts", mesh, steps=4)
    resumed = private_run(tmp_path / "parts", mesh, users=dataclasses.replace(PRIVATE))
    toy.assert_same(resumed.params, through.params)
    assert [row["users"] for row in toy.rows_of(tmp_path / "parts")] == users
    other = dataclasses.replace(PRIVATE, noise=0.2)
    with pytest.raises(UserError, match=r"users\.noise: 0\.1 \(stored\), 0\.2 \(now\)"):
        private_run(tmp_path / "parts", mesh, users=other)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_norm": 0.0}, "max_norm must be positive"),
        ({"noise": -1.0}, "noise must be finite and not negative"),
        ({"noise": float("nan")}, "noise must be finite"),
        ({"rows_per_user": 0}, "rows_per_user must be at least 1"),
    ],
)
def test_clipping_out_of_range_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        UserClipping(**{"max_norm": 1.0, "noise": 1.0} | fields)


def test_a_run_refuses_what_users_are_not_clipped_with(tmp_path):
    mesh = toy.mesh_of(1)
    config = toy.sft_config(accumulation_steps=2)
    for changes in ({"config": config}, {"loss": mean_of_rows}):
        with pytest.raises(UserError, match="set users_at_once for memory"):
            private_run(tmp_path, mesh, **changes)
