"""Sums with two rewards, from nothing to a trained folder: python examples/arithmetic.py OUT

A decoder of 60,000 parameters first imitates answers to one-digit sums, a third of which are wrong
and some of which go on for too long. Then GDPO trains it on two rewards: the sum is right, and the
answer is short. Takes about two minutes on two CPU cores.
"""

import dataclasses
import random
from pathlib import Path

import jax
import tyro

from gdpo_jax import answer, gdpo, imitate, open_model, optimize
from gdpo_jax.policies import DecoderConfig, train_tokenizer
from gdpo_jax.recipe import sampler_config
from gdpo_jax.training import (
    Evaluation,
    OptimizerConfig,
    PolicyOptimizationConfig,
    SFTConfig,
    read_metrics,
)

SUMS = [
    {"prompt": f"{a} + {b} = ", "sum": str(a + b), "held_out": (3 * a + b) % 7 == 0}
    for a in range(10)
    for b in range(10)
]


def correct(completions, records):
    """1 for an answer that begins with the sum."""
    return [float(c.text.split(";")[0] == r["sum"]) for c, r in zip(completions, records)]


def brief(completions, records):
    """Minus the number of tokens; no opinion on an answer that was cut off."""
    return [-float(len(c.token_ids)) if c.finished else None for c in completions]


def demonstrations(seed: int) -> list[dict]:
    """Answers as a careless teacher gives them."""
    draw = random.Random(seed)
    rows = []
    for row in SUMS:
        for _ in range(4):
            given = row["sum"] if draw.random() < 0.67 else str(draw.randrange(19))
            rows.append({**row, "completion": given + ";" * draw.randrange(4)})
    return rows


def main(
    out: Path, imitation_steps: int = 300, steps: int = 60, seed: int = 0
) -> tuple[float, float]:
    """Trains, prints and returns the share of right sums before and after.

    Args:
        out: folder of both runs and of the trained model.
        imitation_steps: updates of imitation.
        steps: steps of policy optimization.
        seed: of parameters, demonstrations and samples.
    """
    rows = demonstrations(seed)
    tokenizer = train_tokenizer([r["prompt"] + r["completion"] for r in rows], vocab_size=300)
    decoder = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=12,
        d_ff=96,
        max_positions=32,
    )
    # A model this small learns at rates that would break a pretrained one.
    model = open_model(decoder, tokenizer=tokenizer, remat="none", key=jax.random.key(seed))
    imitated = imitate(
        model,
        rows,
        workdir=out / "imitate",
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_updates=10),
        config=SFTConfig(steps=imitation_steps, batch_size=64, log_every=10),
    )
    model = model.with_params(imitated.params)
    state = optimize(
        model,
        [row for row in SUMS if not row["held_out"]],
        rewards=[correct, brief],
        estimator=gdpo({"correct": 1.0, "brief": 0.3}),
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_updates=5),
        config=PolicyOptimizationConfig(steps=steps, prompts_per_step=32, num_samples=8),
        sampler=sampler_config(model, max_new_tokens=8),
        evaluation=Evaluation(records=[row for row in SUMS if row["held_out"]], every=20),
        workdir=out / "optimize",
    )
    model.save(out / "model", state)
    shares = tuple(share_right(model, used) for used in (imitated, state))
    lengths = [
        row["completions/length_mean"] for row in read_metrics(out / "optimize/metrics.jsonl")
    ]
    print(f"right sums {shares[0]:.2f} -> {shares[1]:.2f}")
    print(f"tokens an answer {lengths[0]:.1f} -> {lengths[-1]:.1f}")
    return shares


def share_right(model, state) -> float:
    """The share of sums that the model gets right with the parameters of a state."""
    greedy = dataclasses.replace(sampler_config(model, max_new_tokens=8), temperature=0.0)
    texts = answer(model, [row["prompt"] for row in SUMS], state=state, sampler=greedy)
    return sum(t.split(";")[0] == row["sum"] for t, row in zip(texts, SUMS)) / len(SUMS)


if __name__ == "__main__":
    tyro.cli(main)
