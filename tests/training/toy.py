"""A tiny real setting: numbers are words, and the policy learns which ones are rewarded."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from gdpo_jax.advantages import gdpo
from gdpo_jax.data import record_batches
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import DecoderConfig, decoder_policy
from gdpo_jax.rollouts import Rollout, SamplerConfig, jax_engine
from gdpo_jax.training import (
    Evaluation,
    MeshConfig,
    OptimizerConfig,
    PolicyBatch,
    PolicyOptimizationConfig,
    SFTConfig,
    ShardingRules,
    batch_sharding,
    create_state,
    make_mesh,
    make_optimizer,
    process_share,
    read_metrics,
    run_policy_optimization,
    run_sft,
)

STOP, PAD = 14, 15
RECORDS = [{"id": i, "prompt": [i % 7, 3, i % 5][: 1 + i % 3]} for i in range(40)]
DECODER = DecoderConfig(
    vocab_size=16,
    d_model=16,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    d_ff=32,
    max_positions=48,
)
POLICY = decoder_policy(DECODER)
RULES = ShardingRules()
OPTIMIZER = OptimizerConfig(learning_rate=3e-3, warmup_updates=2)
# One estimator for all runs, so that what it computes compiles once.
GDPO = gdpo()
# Of a run over two processes, with a rollout ahead when one of them fails.
AHEAD = {
    "steps": 3,
    "accumulation_steps": 2,
    "prompts_per_step": 16,
    "staleness": 1,
    "old_log_probs": "sampler",
}


class DigitTokenizer:
    """Token i is the letter with that number; one character per token."""

    pad_id = PAD

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(ord("a") + token) for token in ids)

    def token_spans(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        return [(i, i + 1) for i in range(len(ids))]


@dataclasses.dataclass(frozen=True)
class LetterShare:
    """The share of `letter` in the text; no opinion on an empty text."""

    name: str
    letter: str

    def __call__(self, completions, records):
        return [c.text.count(self.letter) / len(c.text) if c.text else None for c in completions]


@dataclasses.dataclass(frozen=True)
class Brevity:
    """Minus the number of letters."""

    name: str = "brevity"

    def __call__(self, completions, records):
        return [-float(len(c.text)) for c in completions]


REWARDS = (LetterShare("cs", "c"), Brevity())


def mesh_of(devices: int = 8, **axes: int):
    return make_mesh(MeshConfig(**axes), jax.devices()[:devices])


def engine_on(mesh, temperature: float = 1.0):
    # One decoding loop: tokens are the same, and it compiles and is traced in half the time.
    config = SamplerConfig(
        max_new_tokens=6, stop_ids=(STOP,), pad_id=PAD, temperature=temperature, halvings=0
    )
    return jax_engine(POLICY, config, batch_sharding=batch_sharding(mesh), bucket=4)


def records_for(mesh, batch_size: int, *, seed: int = 3, source=RECORDS):
    index, count = process_share(mesh)
    return record_batches(
        source, batch_size=batch_size, seed=seed, process_index=index, process_count=count
    )


def run(workdir, mesh, *, config: PolicyOptimizationConfig, policy=POLICY, **changes):
    """`run_policy_optimization` on the toy setting; `changes` replace its arguments."""
    optimizer = make_optimizer(OPTIMIZER)
    if "state" not in changes:
        changes["state"] = fresh_state(mesh, optimizer)
    arguments = {
        "engine": engine_on(mesh),
        "optimizer": optimizer,
        "objective": ObjectiveConfig(),
        "transform": GDPO,
        "reward_functions": REWARDS,
        "records": records_for(mesh, config.prompts_per_step),
        "encode": lambda record: record["prompt"],
        "tokenizer": DigitTokenizer(),
    } | changes
    return run_policy_optimization(policy, config=config, workdir=workdir, mesh=mesh, **arguments)


def evaluation_on(mesh) -> Evaluation:
    """Eleven records after every second step, eight at a time."""
    return Evaluation(engine=engine_on(mesh), records=RECORDS[:11], every=2, batch_size=8)


def config(**changes) -> PolicyOptimizationConfig:
    return PolicyOptimizationConfig(
        **{
            "steps": 4,
            "prompts_per_step": 8,
            "num_samples": 4,
            "prompt_buckets": (4, 8),
            "chunk": None,
            "checkpoint_every": 2,
            **changes,
        }
    )


def sft(workdir, mesh, *, config: SFTConfig, **changes):
    """`run_sft`: every completion is its prompt backwards; `changes` replace its arguments."""
    optimizer = make_optimizer(OPTIMIZER)
    if "state" not in changes:
        changes["state"] = fresh_state(mesh, optimizer)
    arguments = {
        "optimizer": optimizer,
        "records": records_for(mesh, config.batch_size),
        "encode": lambda record: (record["prompt"], [*record["prompt"][::-1], STOP]),
        "pad_id": PAD,
    } | changes
    return run_sft(POLICY, config=config, workdir=workdir, mesh=mesh, **arguments)


def sft_config(**changes) -> SFTConfig:
    fields = {"steps": 6, "batch_size": 8, "prompt_buckets": (4,), "completion_buckets": (4,)}
    return SFTConfig(**(fields | {"chunk": None, "checkpoint_every": 2} | changes))


def rollout_of(batch: PolicyBatch) -> Rollout:
    """What the batch may have been sampled as."""
    return Rollout(
        prompts=batch.prompts,
        prompt_lengths=batch.prompt_lengths,
        completions=batch.completions,
        mask=batch.mask,
        log_probs=batch.old_log_probs,
        finished=batch.mask[..., -1],
    )


@functools.cache
def params_of(seed: int):
    """Fresh parameters, which no test changes."""
    return _init(jax.random.key(seed))


_init = jax.jit(POLICY.init)


def fresh_state(mesh, optimizer, *, policy=POLICY, seed=0, **options):
    """The state that `create_state` makes on any mesh, of parameters that are drawn once."""
    key = jax.random.key(seed)
    params = _drawn(policy, seed) if jax.process_count() == 1 else None
    return create_state(policy, optimizer, key=key, mesh=mesh, params=params, **options)


@functools.cache
def _drawn(policy, seed):
    # As NumPy, which is cut over a mesh without a program for each piece.
    key, _ = jax.random.split(jax.random.key(seed))
    return as_numpy(jax.jit(policy.init)(key))


def as_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def rows_of(workdir):
    return read_metrics(workdir / "metrics.jsonl")


def once(workdir, mesh, **changes):
    """One step."""
    step = config(steps=1, **changes.pop("config", {}))
    return run(workdir, mesh, config=step, **changes)


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, as_numpy(one), as_numpy(other))
