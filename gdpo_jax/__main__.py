"""Train, imitate, answer, export, serve and plan from the command line; `--help` lists the options.

    python -m gdpo_jax train --model FOLDER --data prompts.jsonl --rewards rewards.py:correct \
        rewards.py:brief --weights correct=1.0 brief=0.2 --out OUT
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro
from rich.console import Console

from gdpo_jax.answers import answer as answer_prompts
from gdpo_jax.answers import sampler_config
from gdpo_jax.commands.lookup import estimator_of, load_reward
from gdpo_jax.commands.options import (
    HeldOutOptions,
    ModelOptions,
    SamplingOptions,
    TrainedOptions,
)
from gdpo_jax.commands.plan import plan
from gdpo_jax.commands.running import run_command
from gdpo_jax.commands.serve import serve
from gdpo_jax.data import read_records
from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside
from gdpo_jax.models import Model, restored, stored_lora
from gdpo_jax.objectives import ObjectiveConfig, SamplerCorrection
from gdpo_jax.planning import PlannedStep, print_plan
from gdpo_jax.recipe import imitate as imitate_records
from gdpo_jax.recipe import optimize, plan_imitate, plan_optimize
from gdpo_jax.training import PolicyOptimizationConfig, SFTConfig

__all__ = ["main"]


Unnamed = tyro.conf.arg(name="")


def train(
    model: Annotated[ModelOptions, Unnamed],
    sampling: Annotated[SamplingOptions, Unnamed],
    trained: Annotated[TrainedOptions, Unnamed],
    held_out: Annotated[HeldOutOptions, Unnamed],
    *,
    data: Path,
    rewards: tuple[str, ...],
    out: Path,
    weights: tuple[str, ...] = (),
    estimator: str = "gdpo",
    kl_coef: float = 0.0,
    steps: int = 100,
    adapters: bool = False,
    dry_run: bool = False,
) -> None:
    """Train a model on several rewards; OUT/model is the trained folder, OUT/run the run.

    Args:
        data: prompts: JSON Lines with a field "prompt" (text or chat messages) and any others, or a
            folder that Hugging Face datasets saved.
        rewards: FILE.py:FUNCTION of each reward, called with completions and rows.
        out: folder to write; the same command goes on where it stopped.
        weights: NAME=NUMBER of rewards that do not weigh 1.
        estimator: gdpo, grpo, dr_grpo, rloo, ... (docs/estimators.md).
        kl_coef: weight of the KL term to the model as it was.
        steps: rollout batches in all.
        adapters: save adapters in peft's layout, in place of a merged folder.
        dry_run: compile the steps on shapes alone, print memory, and stop.
    """
    functions = [load_reward(text) for text in rewards]
    lora = trained.lora()
    if adapters and lora is None:
        raise UserError("--adapters needs --lora-rank: there are none to save otherwise")
    transform = estimator_of(estimator, weights, [function.name for function in functions])
    objective = ObjectiveConfig(
        kl="k3" if kl_coef else None,
        kl_coef=kl_coef,
        correction=SamplerCorrection() if sampling.staleness else None,
    )
    config = PolicyOptimizationConfig(
        steps=steps,
        prompts_per_step=sampling.prompts_per_step,
        num_samples=sampling.num_samples,
        temperature=sampling.temperature,
        accumulation_steps=sampling.accumulation_steps,
        staleness=sampling.staleness,
        seed=trained.seed,
        checkpoint_every=trained.checkpoint_every,
    )
    records = read_records(data)
    evaluation = held_out.evaluation()
    opened = model.describe(lora) if dry_run else model.open(lora)
    shared = {
        "objective": objective,
        "optimizer": trained.optimizer(),
        "config": config,
        "sampler": sampler_config(
            opened,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
        ),
        "too_long": trained.too_long,
    }
    if dry_run:
        return _print_plan(opened, plan_optimize(opened, records, **shared))
    state = optimize(
        opened,
        records,
        rewards=functions,
        estimator=transform,
        workdir=out / "run",
        evaluation=evaluation,
        **shared,
    )
    _save(opened.with_params(state.params), out, adapters, best=held_out.best is not None)


def imitate(
    model: Annotated[ModelOptions, Unnamed],
    trained: Annotated[TrainedOptions, Unnamed],
    *,
    data: Path,
    out: Path,
    steps: int = 200,
    batch_size: int = 32,
    accumulation_steps: int = 1,
    adapters: bool = False,
    dry_run: bool = False,
) -> None:
    """Imitate the completions of a file; OUT/model is the trained folder, OUT/run the run.

    Args:
        data: rows with the fields "prompt" (text or chat messages) and "completion".
        out: folder to write; the same command goes on where it stopped.
        steps: optimizer updates in all.
        batch_size: rows of an update, over all devices.
        accumulation_steps: micro-batches per update: the same update in less memory.
        adapters: save adapters in peft's layout, in place of a merged folder.
        dry_run: compile the step on shapes alone, print memory, and stop.
    """
    lora = trained.lora()
    if adapters and lora is None:
        raise UserError("--adapters needs --lora-rank: there are none to save otherwise")
    records = read_records(data)
    config = SFTConfig(
        steps=steps,
        batch_size=batch_size,
        accumulation_steps=accumulation_steps,
        checkpoint_every=trained.checkpoint_every,
    )
    shared = {
        "optimizer": trained.optimizer(),
        "config": config,
        "too_long": trained.too_long,
    }
    if dry_run:
        opened = model.describe(lora)
        planned = plan_imitate(opened, records, **shared)
        return print_plan(
            model.model, opened.policy, [planned], mesh=opened.mesh, console=Console()
        )
    opened = model.open(lora)
    state = imitate_records(opened, records, workdir=out / "run", seed=trained.seed, **shared)
    _save(opened.with_params(state.params), out, adapters)


def answer(
    model: Annotated[ModelOptions, Unnamed],
    prompts: tyro.conf.Positional[tuple[str, ...]] = (),
    *,
    data: Path | None = None,
    out: Path | None = None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    batch_size: int = 32,
    seed: int = 0,
) -> None:
    """Answer prompts with a model.

    Args:
        prompts: texts; each is asked as a user's message where the model has a chat template.
        data: a file of prompts in place of them, as for train.
        out: JSON Lines to write, each row of --data with its "answer"; printed unless given.
        max_new_tokens: longest answer.
        temperature: 0 takes the most likely token each time.
        batch_size: prompts decoded together.
        seed: of sampled answers.
    """
    if bool(prompts) == (data is not None):
        raise UserError("give prompts as arguments, or a file by --data")
    rows = [{"prompt": text} for text in prompts] if data is None else read_records(data)
    opened = model.open()
    asked = [row["prompt"] for row in rows]
    if data is None and opened.tokenizer.chat_template is not None:
        asked = [[{"role": "user", "content": text}] for text in prompts]
    texts = answer_prompts(
        opened,
        asked,
        sampler=sampler_config(opened, max_new_tokens=max_new_tokens, temperature=temperature),
        batch_size=batch_size,
        key=jax.random.key(seed),
    )
    if jax.process_index() != 0:
        return
    if out is None:
        for text in texts:
            Console(soft_wrap=True).print(text, markup=False, highlight=False)
        return
    lines = [json.dumps({**row, "answer": text}) for row, text in zip(rows, texts, strict=True)]
    write_beside(out, "".join(line + "\n" for line in lines).encode())


def export(
    model: Annotated[ModelOptions, Unnamed],
    *,
    run: Path,
    out: Path,
    best: bool = False,
    adapters: bool = False,
    save_dtype: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Write a run's newest checkpoint as a folder that transformers opens.

    Args:
        run: the run, such as OUT/run of train.
        out: folder to write.
        best: the best state of the run's evaluations, in place of the newest.
        adapters: save adapters in peft's layout, in place of a merged folder.
        save_dtype: of the stored numbers.
    """
    opened = model.open(stored_lora(run))
    restored(opened, run, best=best).save(out, dtype=save_dtype, adapters=adapters)
    _say(f"the model is in {out}")


def _save(model: Model, out: Path, adapters: bool, *, best: bool = False) -> None:
    if best:
        model = restored(model, out / "run", best=True)
    model.save(out / "model", adapters=adapters)
    _say(f"the trained model is in {out / 'model'}, metrics in {out / 'run' / 'metrics.jsonl'}")


def _print_plan(model: Model, steps: Sequence[PlannedStep]) -> None:
    print_plan(model.name, model.policy, steps, mesh=model.mesh, console=Console())


def _say(text: str) -> None:
    if jax.process_index() == 0:
        Console(soft_wrap=True).print(text, highlight=False, markup=False)


COMMANDS = {
    "train": train,
    "imitate": imitate,
    "answer": answer,
    "export": export,
    "serve": serve,
    "plan": plan,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    return run_command(COMMANDS, arguments, prog="python -m gdpo_jax", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
