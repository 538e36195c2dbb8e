#!/usr/bin/env python
"""Rollouts one step ahead: seconds of a step against the synchronous run, and what is learned.

    python scripts/bench_staleness.py [--judge 0.5] [--split]
    python scripts/bench_staleness.py --learn [--seeds 5] [--steps 150]

The first form times steps of three runs that take turns: the synchronous one, one with a rollout
ahead and, with --split, one with a rollout ahead on a device of its own (the second of two fake CPU
devices). One of the two rewards is a judge that answers after --judge seconds. The second form
learns a small task with the synchronous run and with both corrections: an answer is to repeat the
letter of its prompt, and not to stop early. Rewards are means over the last ten steps.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from gdpo_jax.advantages import gdpo
from gdpo_jax.data import record_batches
from gdpo_jax.objectives import ObjectiveConfig, SamplerCorrection
from gdpo_jax.policies import DecoderConfig, decoder_policy
from gdpo_jax.rollouts import SamplerConfig, jax_engine
from gdpo_jax.training import (
    MeshConfig,
    OptimizerConfig,
    PolicyOptimizationConfig,
    batch_sharding,
    create_state,
    make_mesh,
    mesh_engine,
    read_metrics,
    run_policy_optimization,
)

LETTERS = "abcdefghijkl"
STOP, PAD = len(LETTERS), len(LETTERS) + 1
WIDE = dict(d_model=128, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=32, d_ff=512)
SMALL = dict(d_model=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, d_ff=64)
CORRECTED = ObjectiveConfig(correction=SamplerCorrection())
# Of each kind of run: its staleness, whose log-probs ratios are taken to, and the objective.
KINDS = {
    "synchronous": (0, "trainer", ObjectiveConfig()),
    "ahead, corrected": (1, "trainer", CORRECTED),
    "ahead, sampler's log-probs": (1, "sampler", ObjectiveConfig()),
}
PHASES = ("step", "rollout", "sample", "score", "update")


class Letters:
    """One letter a token."""

    pad_id = PAD

    def decode(self, ids: Sequence[int]) -> str:
        return "".join((LETTERS + "..")[token] for token in ids)

    def token_spans(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        return [(place, place + 1) for place in range(len(ids))]


@dataclasses.dataclass(frozen=True)
class Repeats:
    """The share of the answer that is the prompt's letter; a judge that thinks for `seconds`."""

    seconds: float = 0.0
    name: str = "repeats"

    def __call__(self, completions: Sequence[Any], records: Sequence[Any]) -> list[float]:
        time.sleep(self.seconds)
        return [
            c.text.count(r["letter"]) / len(c.text) if c.text else 0.0
            for c, r in zip(completions, records)
        ]


def letters(completions: Sequence[Any], records: Sequence[Any]) -> list[float]:
    """How many letters there are."""
    return [float(len(c.text)) for c in completions]


def train(
    kind: str, sizes: dict[str, int], options: argparse.Namespace, *, seed: int, split: bool = False
) -> list[dict[str, float]]:
    """The rows of metrics of one run."""
    staleness, old_log_probs, objective = KINDS[kind]
    half = len(jax.devices()) // 2 if options.split else len(jax.devices())
    mesh = make_mesh(MeshConfig(), jax.devices()[:half])
    policy = decoder_policy(DecoderConfig(vocab_size=PAD + 1, max_positions=64, **sizes))
    lengths = {"max_new_tokens": options.tokens, "halvings": 0}
    sampler = SamplerConfig(stop_ids=(STOP,), pad_id=PAD, **lengths)
    engine = jax_engine(policy, sampler, batch_sharding=batch_sharding(mesh), bucket=1)
    if split:
        others = make_mesh(MeshConfig(), jax.devices()[half:])
        engine = mesh_engine(policy, sampler, mesh=others, bucket=1)
    records = [{"letter": letter} for letter in LETTERS]
    optimizer = OptimizerConfig(learning_rate=3e-3, warmup_updates=5)
    with tempfile.TemporaryDirectory() as folder:
        run_policy_optimization(
            policy,
            engine,
            create_state(policy, optimizer, key=jax.random.key(seed), mesh=mesh),
            optimizer=optimizer,
            objective=objective,
            transform=gdpo({"repeats": 1.0, "letters": 0.5}),
            reward_functions=[Repeats(options.judge), letters],
            records=record_batches(records, batch_size=8, seed=seed),
            encode=lambda record: [LETTERS.index(record["letter"])],
            tokenizer=Letters(),
            config=PolicyOptimizationConfig(
                steps=options.steps,
                prompts_per_step=8,
                num_samples=8,
                prompt_buckets=(1,),
                seed=seed,
                staleness=staleness,
                old_log_probs=old_log_probs,
                checkpoint_every=options.steps,
            ),
            workdir=folder,
            mesh=mesh,
        )
        return read_metrics(Path(folder) / "metrics.jsonl")


def show_times(options: argparse.Namespace) -> None:
    """A column of seconds for each kind of run, medians over steps from the third on."""
    runs = {"synchronous": ("synchronous", False), "one step ahead": ("ahead, corrected", False)}
    if options.split:
        runs["on its own device"] = ("ahead, corrected", True)
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for turn in range(1 + options.turns):
        for name, (kind, split) in runs.items():
            rows = train(kind, WIDE, options, seed=turn, split=split)
            # Programs compile in the first turn.
            steps[name] += rows[2:] if turn else []
    print(f"| seconds | {' | '.join(runs)} |")
    print("|---|" + "---|" * len(runs))
    for phase in PHASES:
        found = [[row.get(f"time/{phase}_seconds") for row in rows] for rows in steps.values()]
        shown = [f"{statistics.median(v):.3f}" if None not in v else "" for v in found]
        print(f"| {phase} | {' | '.join(shown)} |")
    medians = [statistics.median(r["time/step_seconds"] for r in rows) for rows in steps.values()]
    print(f"| synchronous / this | {' | '.join(f'{medians[0] / m:.2f}' for m in medians)} |")


def show_learning(options: argparse.Namespace) -> None:
    """Rewards of the last ten steps of each kind of run, mean and deviation over seeds."""
    lines = ["| run | repeats | letters | distance to the sampler |", "|---|---|---|---|"]
    for kind in KINDS:
        runs = [train(kind, SMALL, options, seed=seed) for seed in range(options.seeds)]
        cells = []
        for name in ("reward/repeats/mean", "reward/letters/mean"):
            last = [statistics.mean(row[name] for row in rows[-10:]) for rows in runs]
            cells.append(f"{statistics.mean(last):.3f} ± {statistics.stdev(last):.3f}")
        # Where ratios are taken to the sampler, its distance stands in another column.
        name = "kl/old" if "sampler" in kind else "rollout/kl"
        away = statistics.mean(row[name] for rows in runs for row in rows[1:])
        lines.append(f"| {kind} | {' | '.join(cells)} | {away:.4f} |")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--judge", type=float, default=0.5)
    parser.add_argument("--split", action="store_true")
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=None)
    options = parser.parse_args()
    if options.split:
        jax.config.update("jax_num_cpu_devices", 2)
    if options.learn:
        options.judge = 0.0
    options.steps = options.steps or (150 if options.learn else 12)
    options.tokens = options.tokens or (8 if options.learn else 48)
    show_learning(options) if options.learn else show_times(options)


if __name__ == "__main__":
    main()
