"""An estimator of your own out of stages: python examples/custom_estimator.py MODEL OUT

Each reward is replaced by its rank inside the group, from -1 (worst) to 1 (best), so that outliers
count no more than any other difference. The rest are the stages of GDPO.
"""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import tyro

from gdpo_jax import chain, open_model, optimize
from gdpo_jax.advantages import Flow, batch_normalize, combine, stateless, weigh
from gdpo_jax.recipe import sampler_config
from gdpo_jax.training import PolicyOptimizationConfig

QUESTIONS = [{"prompt": f"Count to {n}:", "count": n} for n in range(2, 34)]


def by_rank(flow: Flow) -> Flow:
    """Every reward of `[B, G, K]` by its place among the group's valid ones; ties share it."""
    values, valid = flow.values, flow.valid
    others = valid[:, None]  # [B, 1, G, K] beside [B, G, 1, K]
    below = jnp.sum(others & (values[:, None] < values[:, :, None]), axis=2, dtype=values.dtype)
    above = jnp.sum(others & (values[:, None] > values[:, :, None]), axis=2, dtype=values.dtype)
    count = jnp.sum(valid, axis=1, keepdims=True, dtype=values.dtype)
    ranks = (below - above) / jnp.maximum(count - 1, 1)
    return dataclasses.replace(flow, values=jnp.where(valid, ranks, 0))


def rank_gdpo(weights: dict[str, float]):
    """GDPO on ranks in place of z-scores."""
    return chain(stateless(by_rank), weigh(weights), combine(), batch_normalize())


def numbers(completions, records):
    """How many of the numbers up to the record's count appear."""
    wanted = [[str(n) for n in range(1, r["count"] + 1)] for r in records]
    return [sum(n in c.text.split() for n in row) / len(row) for c, row in zip(completions, wanted)]


def brief(completions, records):
    """Minus the number of tokens."""
    return [-float(len(c.token_ids)) for c in completions]


def main(model: Path, out: Path, steps: int = 100, prompts_per_step: int = 8) -> None:
    """Trains the model and writes OUT/model.

    Args:
        model: a model folder.
        out: folder of the run and of the trained model.
        steps: rollout batches.
        prompts_per_step: prompts of each.
    """
    opened = open_model(model)
    state = optimize(
        opened,
        QUESTIONS,
        rewards=[numbers, brief],
        estimator=rank_gdpo({"numbers": 1.0, "brief": 0.2}),
        config=PolicyOptimizationConfig(
            steps=steps, prompts_per_step=prompts_per_step, num_samples=4
        ),
        sampler=sampler_config(opened, max_new_tokens=32),
        workdir=out / "run",
    )
    opened.save(out / "model", state)


if __name__ == "__main__":
    tyro.cli(main)
