"""What programs compiled for a TPU pod exchange and hold; nothing runs, and no TPU is needed.

pip install --editable ".[tpu]" && python -m pytest -m tpu_compiler tests/planning
"""

import dataclasses
import importlib.util
import math

import jax
import numpy as np
import pytest

from gdpo_jax.advantages import compute_advantages, gdpo, reward_batch
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.planning.abstract import abstract_batch, bytes_per_device
from gdpo_jax.planning.chips import open_pod
from gdpo_jax.planning.work import work_of
from gdpo_jax.policies import decoder_policy
from gdpo_jax.training import (
    MeshConfig,
    batch_sharding,
    make_mesh,
    make_optimizer,
    make_policy_step,
)
from gdpo_jax.training.state import abstract_state
from tests.training import toy

pytestmark = [
    pytest.mark.tpu_compiler,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed (extra tpu)"
    ),
    # libtpu looks for a TPU when it is loaded, and the topology keeps no file open behind it.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

# Sizes that no other axis has, nor any piece of one.
VOCAB, SAMPLES, PROMPT, COMPLETION = 16 * 67, 2, 7, 12
WIDTH, LENGTH = 48, PROMPT + SAMPLES * COMPLETION


@pytest.fixture(scope="module")
def pod():
    """16 chips; their programs are those of a run, and not of a quick test."""
    kept = {
        "jax_disable_most_optimizations": jax.config.read("jax_disable_most_optimizations"),
        "jax_enable_compilation_cache": jax.config.jax_enable_compilation_cache,
    }
    jax.config.update("jax_disable_most_optimizations", False)
    yield open_pod("v5e:4x4")
    for name, value in kept.items():
        jax.config.update(name, value)


def test_one_chip_is_a_pod_too(pod):
    [chip] = open_pod("v6e:1x1").devices
    assert chip.platform == "tpu"


def test_gdpo_over_a_pod_is_two_sums(pod):
    rows = batch_sharding(make_mesh(MeshConfig(16, 1, 1), pod.devices))
    transform, names = gdpo(), ("a", "b", "c")

    def advantages(rewards):
        return compute_advantages(transform, rewards, transform.init(names))[0].values

    def abstract(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=rows)

    rewards = jax.tree.map(abstract, reward_batch(np.zeros((64, 8, 3), np.float32), names))
    text = jax.jit(advantages, out_shardings=rows).lower(rewards).compile().as_text()
    counts = {kind: count for kind, (count, _) in work_of(text, 16).by_kind().items()}
    assert counts == {"all-reduce": 2}


def compiled_update(pod, *sizes):
    """The policy step on a mesh: its state, and the compiled program."""
    decoder = dataclasses.replace(
        toy.DECODER, d_model=WIDTH, vocab_size=VOCAB, remat="layer", num_layers=2
    )
    policy, optimizer = decoder_policy(decoder), make_optimizer(toy.OPTIMIZER)
    mesh = make_mesh(MeshConfig(*sizes), pod.devices)
    batch = abstract_batch(
        prompts=len(pod.devices),
        num_samples=SAMPLES,
        prompt_length=PROMPT,
        completion_length=COMPLETION,
        mesh=mesh,
    )
    state = abstract_state(policy, optimizer, mesh=mesh)
    step = make_policy_step(policy, optimizer, ObjectiveConfig(), mesh=mesh, chunk=4)
    return state, step.lower(state, batch).compile()


@pytest.fixture(scope="module")
def update(pod):
    return compiled_update(pod, 1, 16, 1)


def test_neither_the_vocabulary_nor_all_rows_travel_in_a_step(update):
    _, compiled = update
    found = work_of(compiled.as_text(), 16).collectives
    assert found
    slices = {VOCAB // pieces for pieces in (1, 2, 4, 8, 16)}
    for each in found:
        sizes = [dims for dims in each.sizes if dims]
        assert each.times == 1 or not any(slices & set(dims) for dims in sizes), each
        # No chip receives all rows of the batch, or the table whole.
        rows = sum(math.prod(dims) for dims in sizes if LENGTH in dims)
        assert rows < 16 * LENGTH * WIDTH, each
        assert all(math.prod(dims) < VOCAB * WIDTH for dims in sizes), each


def test_the_table_stays_cut_where_there_are_many_copies(pod):
    _, compiled = compiled_update(open_pod("v5e:16x16"), 64, 4, 1)
    found = work_of(compiled.as_text(), 256).collectives
    sizes = [math.prod(dims) for each in found for dims in each.sizes if VOCAB in dims]
    assert sizes and max(sizes) <= VOCAB * WIDTH // 4


def test_the_donated_state_is_written_in_place(update):
    state, compiled = update
    analysis = compiled.memory_analysis()
    # Arrays lie in tiles on a TPU, so that they take at least their bytes.
    assert analysis.alias_size_in_bytes >= bytes_per_device((state.params, state.opt_state))
    left = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    assert left < 0.01 * analysis.alias_size_in_bytes + 2**16
