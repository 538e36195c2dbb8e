"""Four users with a few exchanges each, a small model, and settings of their adapters."""

import functools

import jax
import numpy as np

from experiments.common.runs.settings import Preset
from experiments.common.runs.stages import Job
from experiments.persona_leakage.learning.adapted import adapted_users
from experiments.persona_leakage.learning.adapters import Adaptation
from gdpo_jax.policies import DecoderConfig, LoraConfig, train_tokenizer
from gdpo_jax.recipe import open_model
from gdpo_jax.training import MeshConfig, OptimizerConfig, SFTConfig, make_mesh

NAMES = ("ann", "bob", "cy", "dan")
ROWS = {
    user: [
        {"user": user, "prompt": f"where is the {thing}?", "completion": f"{pet}, in the {thing}."}
        for thing in ("lamp", "clock", "garden", "attic")
    ]
    for user, pet in zip(NAMES, ("petal", "captain", "old bean", "sunny boy"))
}
ALL = [row for own in ROWS.values() for row in own]
TOKENIZER = train_tokenizer([f"{r['prompt']} {r['completion']}" for r in ALL], vocab_size=290)
DECODER = DecoderConfig(
    vocab_size=TOKENIZER.vocab_size,
    d_model=8,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    d_ff=8,
    max_positions=48,
)
SETTINGS = Adaptation(
    run=SFTConfig(
        steps=6,
        batch_size=2,
        prompt_buckets=(24,),
        completion_buckets=(16,),
        chunk=None,
        checkpoint_every=3,
    ),
    # The first gradients are larger than this norm.
    optimizer=OptimizerConfig(learning_rate=3e-2, max_grad_norm=0.1, weight_decay=0.1),
    lora=LoraConfig(rank=2, alpha=4.0, targets=("query", "down")),
    together=2,  # in all tests, so that they share one program
)


@functools.cache
def small_model(devices=1):
    """One object, so that all tests share its programs."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    return open_model(DECODER, mesh, tokenizer=TOKENIZER, remat="none", key=jax.random.key(4))


def flat(tree):
    return {jax.tree_util.keystr(p): np.asarray(x) for p, x in jax.tree.leaves_with_path(tree)}


def adapters(model):
    return {user: flat(model.params["users"][user]) for user in adapted_users(model)}


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one.keys() | other.keys())


def job_of(folder, settings, **examples):
    preset = Preset(name="tiny", decoder=DECODER, stages={"adapters": settings})
    return Job(
        title="adapters",
        seed=0,
        preset=preset,
        model=small_model(),
        examples=examples.__getitem__,
        rewards=lambda: None,
        prompt=lambda row: row["prompt"],
        folder=folder,
        identity={},
    )
