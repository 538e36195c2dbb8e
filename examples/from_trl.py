"""A TRL script, moved over: python examples/from_trl.py MODEL OUT

What it was, with rewards and prompts as below:

    trainer = GRPOTrainer(
        model=folder,
        reward_funcs=[exact_answer, format_reward],
        args=GRPOConfig(
            output_dir=out, learning_rate=1e-6, beta=0.04, num_generations=4,
            max_completion_length=32, reward_weights=[1.0, 0.5],
            multi_objective_aggregation="normalize_then_sum",
        ),
        train_dataset=dataset,
    )
    trainer.train()

The reward functions stay as they are: `trl_reward` hands them prompts, completions and the columns
of the data set. `gdpo(convention="trl")` computes what TRL's normalize_then_sum computes.
"""

import re
from pathlib import Path

import tyro

from gdpo_jax import gdpo, open_model, optimize
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.recipe import sampler_config
from gdpo_jax.rollouts import trl_reward
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig

DATASET = [
    {"prompt": [{"role": "user", "content": f"What is {a} + {b}?"}], "answer": str(a + b)}
    for a in range(9)
    for b in range(9)
]


def exact_answer(prompts, completions, answer, **kwargs):
    """A TRL reward on a data set column."""
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if right in content else 0.0 for content, right in zip(contents, answer)]


def format_reward(completions, **kwargs):
    """A TRL reward on the text alone."""
    pattern = r"[\w\s]*\d+\.?"
    return [float(bool(re.fullmatch(pattern, c[0]["content"]))) for c in completions]


def main(model: Path, out: Path, steps: int = 100, prompts_per_step: int = 8) -> None:
    """Trains the model and writes OUT/model.

    Args:
        model: a folder with a chat template.
        out: folder of the run and of the trained model.
        steps: rollout batches.
        prompts_per_step: prompts of each; TRL counts completions, four times as many.
    """
    opened = open_model(model)
    state = optimize(
        opened,
        DATASET,
        rewards=[trl_reward(exact_answer), trl_reward(format_reward)],
        estimator=gdpo({"exact_answer": 1.0, "format_reward": 0.5}, convention="trl"),
        objective=ObjectiveConfig(kl="k3", kl_coef=0.04),
        optimizer=OptimizerConfig(learning_rate=1e-6),
        config=PolicyOptimizationConfig(
            steps=steps, prompts_per_step=prompts_per_step, num_samples=4
        ),
        sampler=sampler_config(opened, max_new_tokens=32),
        workdir=out / "run",
    )
    opened.save(out / "model", state)


if __name__ == "__main__":
    tyro.cli(main)
