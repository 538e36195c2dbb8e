"""Frozen parameters in fewer bits than float32: held once, and joined with adapters in float32."""

import dataclasses
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.models import open_model, with_lora
from gdpo_jax.planning.abstract import bytes_per_device
from gdpo_jax.policies import (
    DecoderConfig,
    LoraConfig,
    completion_log_probs,
    decoder_policy,
    lora_init,
    lora_merge,
    lora_policy,
    num_params,
)
from gdpo_jax.policies.quantized import (
    BLOCK,
    INPUT_AXES,
    dequantized,
    is_quantized,
    quantize_stacked,
)
from gdpo_jax.rollouts import SamplerConfig, sample
from gdpo_jax.rollouts.engine import sampler_program
from gdpo_jax.training import (
    MeshConfig,
    OptimizerConfig,
    batch_sharding,
    create_state,
    make_mesh,
    make_optimizer,
    shardings_for,
)
from gdpo_jax.training.config import differing_fields, json_tree
from tests.tiny_model import save_tiny_model

CONFIG = DecoderConfig(
    vocab_size=24,
    d_model=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    d_ff=48,
    max_positions=32,
    dtype="bfloat16",
    tie_embeddings=False,
)
LORA = LoraConfig(rank=2, alpha=4.0, targets=("query", "out", "down"))
SAMPLER = SamplerConfig(max_new_tokens=5, stop_ids=(1,), pad_id=0, halvings=0)
PROMPTS, LENGTHS = jnp.array([[3, 4, 5], [6, 7, 0]], jnp.int32), jnp.array([3, 2], jnp.int32)
QUANTIZED = ("int8", "int4")


@functools.cache
def policy_in(param_dtype):
    return decoder_policy(dataclasses.replace(CONFIG, param_dtype=param_dtype))


@functools.cache
def adapted_in(param_dtype):
    return lora_policy(policy_in(param_dtype), LORA)


@functools.cache
def params_in(param_dtype):
    return jax.jit(policy_in(param_dtype).init)(jax.random.key(0))


def needs_qwix(param_dtype):
    if param_dtype in QUANTIZED:
        pytest.importorskip("qwix")


def adapters_of(base, seed=1):
    draw = np.random.default_rng(seed).normal
    fresh = jax.eval_shape(lambda: lora_init(jax.random.key(0), base, LORA))
    return jax.tree.map(lambda a: jnp.asarray((0.1 * draw(size=a.shape)).astype(a.dtype)), fresh)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def exact(folder):
    """The parameters of the folder in float32."""
    return jax.tree.map(np.asarray, open_model(folder, cut_mesh()).params)


def cut_mesh():
    return make_mesh(MeshConfig(data=1, fsdp=2, tensor=1), jax.devices()[:2])


@functools.partial(jax.jit, static_argnums=0)
def log_probs(policy, params, rollout):
    given = (rollout.prompts, rollout.prompt_lengths, rollout.completions, rollout.mask)
    return completion_log_probs(policy, params, *given)[0]


@functools.partial(jax.jit, static_argnums=0)
def gradient_and_log_probs(policy, base, adapters, rollout):
    """The gradient of the sum of all log-probs with respect to the adapters, and the log-probs."""

    def loss(adapters):
        values = log_probs(policy, {"base": base, "adapters": adapters}, rollout)
        return values.sum(), values

    return jax.grad(loss, has_aux=True)(adapters)


in_dtype = jax.jit(dequantized, static_argnums=1)


@jax.jit
def merged_in_float32(base, adapters):
    return lora_merge(dequantized(base, jnp.float32), adapters, LORA)


def test_float32_has_one_spelling_and_a_stored_run_knows_nothing_of_it():
    named = dataclasses.replace(CONFIG, param_dtype="float32")
    assert named == CONFIG and hash(named) == hash(CONFIG) and CONFIG.param_dtype is None
    now = {"policy": json_tree(CONFIG)}
    before = {"policy": {k: v for k, v in now["policy"].items() if k != "param_dtype"}}
    assert differing_fields(before, now) == []
    half = {"policy": json_tree(dataclasses.replace(CONFIG, param_dtype="bfloat16"))}
    assert differing_fields(now, half) == ["policy.param_dtype: None (stored), 'bfloat16' (now)"]
    with pytest.raises(UserError, match="legal: None, float32, bfloat16, int8, int4"):
        dataclasses.replace(CONFIG, param_dtype="int2")


def test_a_bfloat16_base_gives_the_numbers_of_the_float32_one_under_bfloat16_products():
    """Products read bfloat16 matrices in both, and norms stay float32."""
    plain, half = params_in(None), params_in("bfloat16")
    kinds = jax.tree.map(lambda leaf: str(leaf.dtype), half)
    assert kinds["layers"]["attention_norm"]["scale"] == "float32"
    assert {kinds["embedding"], kinds["head"], kinds["layers"]["out"]} == {"bfloat16"}
    pair = jax.device_get((plain, half))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.astype(b.dtype), b), *pair)
    adapters = adapters_of(plain)
    policies = [adapted_in(name) for name in (None, "bfloat16")]
    params = [{"base": base, "adapters": adapters} for base in (plain, half)]
    rollout = jax.jit(
        lambda p, k: sample(policies[1], p, PROMPTS, LENGTHS, k, num_samples=2, config=SAMPLER)
    )(params[1], jax.random.key(2))
    one, other = (log_probs(*pair, rollout) for pair in zip(policies, params))
    np.testing.assert_array_equal(one, other)
    # The sampler reads the same arrays, layer by layer.
    np.testing.assert_allclose(rollout.log_probs, other, atol=0.05)


def made_before_the_loop(program):
    """Numbers that a traced program computes outside of its loops, in arrays of a matrix's size."""

    def count(jaxpr):
        total = 0
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("while", "scan"):
                continue
            inner = [
                p for p in equation.params.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")
            ]
            total += sum(count(getattr(p, "jaxpr", p)) for p in inner)
            sizes = [v.aval.size for v in equation.outvars if not inner]
            total += sum(size for size in sizes if size >= CONFIG.d_model * CONFIG.d_ff)
        return total

    return count(program.jaxpr.jaxpr)


@pytest.mark.parametrize("param_dtype", ["bfloat16", *QUANTIZED])
def test_the_sampler_makes_no_second_copy_of_a_base_that_is_whole(param_dtype):
    needs_qwix(param_dtype)
    policy = adapted_in(param_dtype)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    layers = num_params(shapes["base"]["layers"])

    def copied(policy, **axes):
        mesh = make_mesh(MeshConfig(**axes), jax.devices()[:2])
        program = sampler_program(policy, SAMPLER, 2, batch_sharding(mesh))
        return made_before_the_loop(program.trace(shapes, PROMPTS, LENGTHS, jax.random.key(0)))

    assert copied(policy, data=2) == 0
    # Where devices hold a part each, or the base is float32, decoding has weights of its own.
    assert copied(policy, data=1, fsdp=2) > 0.9 * layers
    assert copied(policy._replace(decode_stored=None), data=2) > 0.9 * layers
    assert policy_in(None).decode_stored is None


def test_where_the_mesh_cuts_the_base_each_device_gathers_it():
    mesh = cut_mesh()
    policy, half = policy_in("bfloat16"), params_in("bfloat16")
    # As NumPy, which is cut without a program for each piece.
    shardings = shardings_for(policy.logical_axes(), half, mesh)
    placed = jax.device_put(jax.device_get(half), shardings)
    program = sampler_program(policy, SAMPLER, 2, batch_sharding(mesh))
    rollout = program(placed, PROMPTS, LENGTHS, jax.random.key(0))
    np.testing.assert_allclose(rollout.log_probs, log_probs(policy, half, rollout), atol=0.05)


def test_training_keeps_float32_what_it_changes():
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    optimizer = make_optimizer(OptimizerConfig())
    policy = policy_in("bfloat16")
    with pytest.raises(UserError, match=r"embedding is bfloat16, which rounds small updates away"):
        create_state(policy, optimizer, key=jax.random.key(0), mesh=mesh)
    state = create_state(adapted_in("bfloat16"), optimizer, key=jax.random.key(0), mesh=mesh)
    assert state.params["base"]["head"].dtype == jnp.bfloat16
    trained = jax.tree.leaves((state.params["adapters"], state.opt_state))
    assert {leaf.dtype for leaf in trained if leaf.ndim} == {jnp.dtype("float32")}


@pytest.mark.parametrize("param_dtype", ["bfloat16", *QUANTIZED])
def test_a_folder_opens_in_fewer_bits_and_is_saved_merged_in_float32(
    folder, exact, tmp_path, param_dtype
):
    needs_qwix(param_dtype)
    mesh = cut_mesh()
    base = open_model(folder, mesh, param_dtype=param_dtype)
    model = with_lora(base, LORA, jax.random.key(3))
    model = model.with_params({**model.params, "adapters": adapters_of(base.params)})
    model.save(tmp_path / "merged")
    saved = jax.tree.map(np.asarray, open_model(tmp_path / "merged", mesh).params)
    expected = merged_in_float32(base.params, model.params["adapters"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), saved, expected)
    merged = model.merged()
    assert merged.policy.config.param_dtype is None
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), merged.params, saved)
    # What no adapter changes is what is held; that of bfloat16 differs by its rounding.
    share = {"bfloat16": 2**-8, "int8": 2**-7, "int4": 2**-3}[param_dtype]
    for name in ("key", "gate", "up"):
        most = np.abs(exact["layers"][name]).max()
        assert 0 < np.abs(saved["layers"][name] - exact["layers"][name]).max() < share * most


@pytest.mark.parametrize(("param_dtype", "steps"), [("int8", 127.5), ("int4", 7.5)])
def test_quantized_numbers_are_whole_steps_of_a_scale_for_each_block(param_dtype, steps):
    needs_qwix(param_dtype)
    matrix = jax.random.normal(jax.random.key(0), (2, 2 * BLOCK, 6))
    made = quantize_stacked(matrix, "gate", param_dtype)
    assert made.scale.shape == (2, 2, 6) and made.scale.dtype == jnp.bfloat16
    blocks = np.asarray(matrix).reshape(2, 2, BLOCK, 6)
    scale = np.asarray(made.scale, np.float32)
    np.testing.assert_allclose(scale, np.abs(blocks).max(2) / steps, rtol=2**-8)
    back = np.asarray(in_dtype(made, jnp.float32)).reshape(blocks.shape)
    # Half a step, and what the rounding of the scale adds to the largest numbers.
    bound = scale[:, :, None] * (0.5 + steps * 2**-8)
    assert (np.abs(back - blocks) <= bound).all()


@pytest.mark.parametrize("param_dtype", QUANTIZED)
def test_a_quantized_base_lies_on_a_mesh_trains_adapters_and_samples(param_dtype):
    needs_qwix(param_dtype)
    policy = adapted_in(param_dtype)
    base = params_in(param_dtype)
    params = {"base": base, "adapters": adapters_of(base)}
    assert all(is_quantized(params["base"]["layers"][name]) for name in INPUT_AXES)
    whole = jax.eval_shape(adapted_in(None).init, jax.random.key(0))
    assert num_params(params) == num_params(whole)
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, tensor=2), jax.devices()[:4])
    shardings = shardings_for(policy.logical_axes(), params, mesh)
    placed = jax.device_put(jax.device_get(params), shardings)
    up = placed["base"]["layers"]["up"]
    assert up.qvalue.sharding.spec == jax.P(None, "fsdp", "tensor")
    assert up.scale.sharding.spec == jax.P(None, None, "tensor")
    bits = {"int8": 8, "int4": 4}[param_dtype]
    assert bytes_per_device(up.qvalue) == 2 * 32 * 48 * bits // 8 // 4
    rollout = sampler_program(policy, SAMPLER, 2, batch_sharding(mesh))(
        placed, PROMPTS, LENGTHS, jax.random.key(0)
    )

    held = in_dtype(base, jnp.bfloat16)
    both = (policy, base), (adapted_in("bfloat16"), held)
    gradients, values = zip(
        *(gradient_and_log_probs(*pair, params["adapters"], rollout) for pair in both)
    )
    np.testing.assert_allclose(rollout.log_probs, values[0], atol=0.05)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=0.02), *jax.device_get(gradients)
    )


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "qwix", None)
    # A size that no other test has: what those have traced is not traced again.
    other = dataclasses.replace(CONFIG, param_dtype="int8", vocab_size=25)
    with pytest.raises(UserError, match=r"param_dtype='int8' needs the package qwix.*quantized"):
        jax.eval_shape(decoder_policy(other).init, jax.random.key(0))
