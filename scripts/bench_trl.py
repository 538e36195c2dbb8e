#!/usr/bin/env python
"""The whole step, sample, score and update, against TRL's GRPOTrainer in GDPO mode.

    pip install -e '.[bench]'
    python scripts/bench_trl.py [--models tiny 30m 135m] [--rounds 2]
    python scripts/bench_trl.py --platform gpu --dtype bfloat16 --models 135m 1b

Both sides load the same folder of random weights, take the same prompts, sample completions of the
same length (no stop token), call the same two reward functions and take one AdamW step of float32
weights, on the same cores or the same GPU. Each side runs in a process of its own, one after the
other, in alternation; a step's time is the median over all rounds without each round's first step,
which compiles. Each side has its faster settings: TRL without gradient checkpointing, JAX
recomputing all but the products with weights, both without a reference model and with one update a
batch. Before its first step each side scores the same tokens with float32 products, and the
difference is printed.

On a GPU float32 products are TF32 on both sides, TRL generates with transformers and not with a
server beside it, and peak memory is what was allocated there; on a CPU it is the process's.
"""

import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from bench_models import MODELS, decoder_config

RESULT = "result: "
RECORDS = 1024  # different prompts to draw from
BACKENDS = {"cpu": "cpu", "gpu": "cuda"}  # as both JAX and torch name them


@dataclass(frozen=True)
class Options:
    """Models, shapes and rounds; `side` and `folder` are for the processes that this one starts."""

    models: tuple[str, ...] = ("tiny", "30m", "135m")  # of `MODELS`
    prompts: int = 2  # prompts a step
    num_samples: int = 8  # completions of each prompt
    prompt_length: int = 256  # tokens
    completion_length: int = 64  # tokens
    steps: int = 4  # a round, the first of which only warms up
    rounds: int = 2  # each runs both sides
    platform: Literal["cpu", "gpu"] = "cpu"  # of both sides
    dtype: Literal["float32", "bfloat16"] = "float32"  # of products; TRL's autocast
    remat: str = "dots"  # of the JAX side; the fastest on a CPU
    chunk: int = 16  # of the JAX side; as many tokens as there are: all logits at once, as in TRL
    side: str | None = None  # jax or trl: run that side on `folder` and print one line of JSON
    folder: Path | None = None  # with the model


def share_of_vowels(texts: Sequence[str]) -> list[float]:
    return [sum(letter in "aeiou" for letter in text) / max(len(text), 1) for text in texts]


def brevity(texts: Sequence[str]) -> list[float]:
    return [-float(len(text.split())) for text in texts]


REWARDS: tuple[Callable[[Sequence[str]], list[float]], ...] = (share_of_vowels, brevity)


def prompt_texts(options: Options) -> list[str]:
    """One letter is one token for the tokenizer of `make_folder`."""
    draw = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz "))
    return ["".join(row) for row in draw.choice(letters, (RECORDS, options.prompt_length))]


def make_folder(model: str, folder: Path, options: Options) -> int:
    """Random weights and a tokenizer of bytes in a Hugging Face folder; the count of parameters."""
    import jax

    from gdpo_jax.policies import decoder_policy, num_params, save_pretrained, train_tokenizer

    # A GPU is for the processes that are measured.
    jax.config.update("jax_platforms", "cpu")
    longest = options.prompt_length + options.completion_length
    config = decoder_config(model, max_positions=longest)
    params = jax.jit(decoder_policy(config).init)(jax.random.key(0))
    tokenizer = train_tokenizer([], vocab_size=259)
    save_pretrained(folder, config, params, tokenizer)
    return num_params(params)


def run_jax(folder: Path, options: Options) -> dict:
    """Steps of `run_policy_optimization`."""
    import jax
    import jax.numpy as jnp

    from gdpo_jax.advantages import gdpo
    from gdpo_jax.data import record_batches
    from gdpo_jax.objectives import ObjectiveConfig
    from gdpo_jax.policies import (
        completion_log_probs,
        decoder_policy,
        load_pretrained,
        open_pretrained,
    )
    from gdpo_jax.rollouts import SamplerConfig, jax_engine
    from gdpo_jax.training import (
        OptimizerConfig,
        PolicyOptimizationConfig,
        batch_sharding,
        create_state,
        make_mesh,
        make_optimizer,
        run_policy_optimization,
    )

    @dataclass(frozen=True)
    class Reward:
        name: str
        of_texts: Callable[[Sequence[str]], list[float]]

        def __call__(self, completions, records):
            return self.of_texts([completion.text for completion in completions])

    opened = open_pretrained(folder, remat=options.remat, dtype=options.dtype)
    policy, tokenizer = decoder_policy(opened.config), opened.tokenizer()
    exact = decoder_policy(dataclasses.replace(opened.config, dtype="float32"))
    params, mesh = load_pretrained(opened), make_mesh()
    texts = prompt_texts(options)
    ids = np.array([tokenizer.encode(text) for text in texts], np.int32)
    half, few = options.prompt_length // 2, ids[: options.prompts]
    rows = (few[:, :half], np.full(len(few), half, np.int32), few[:, None, half:])
    log_probs = jax.jit(lambda p, *rows: completion_log_probs(exact, p, *rows, chunk=None)[0])
    scored = float(jnp.mean(log_probs(params, *rows, np.ones(rows[2].shape, bool))))

    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-6))
    engine = jax_engine(
        policy,
        SamplerConfig(
            max_new_tokens=options.completion_length, stop_ids=(), pad_id=tokenizer.pad_id
        ),
        batch_sharding=batch_sharding(mesh),
    )
    ended, lengths = [], []

    def on_step(sample):
        ended.append(time.perf_counter())
        lengths.append(sample.metrics["completions/length_min"])

    with tempfile.TemporaryDirectory() as workdir:
        run_policy_optimization(
            policy,
            engine,
            create_state(policy, optimizer, key=jax.random.key(0), mesh=mesh, params=params),
            optimizer=optimizer,
            objective=ObjectiveConfig(),
            estimator=gdpo(convention="trl"),
            reward_functions=[Reward(function.__name__, function) for function in REWARDS],
            records=record_batches(
                [{"prompt": row.tolist()} for row in ids], batch_size=options.prompts, seed=0
            ),
            encode=lambda record: record["prompt"],
            tokenizer=tokenizer,
            config=PolicyOptimizationConfig(
                steps=options.steps,
                prompts_per_step=options.prompts,
                num_samples=options.num_samples,
                prompt_buckets=(options.prompt_length,),
                checkpoint_every=options.steps,
                chunk=options.chunk,
            ),
            workdir=workdir,
            mesh=mesh,
            on_step=on_step,
        )
    assert min(lengths) == options.completion_length
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {"ended": ended, "scored": scored, "peak_bytes": peak or resident_bytes()}


def run_trl(folder: Path, options: Options) -> dict:
    """Steps of `GRPOTrainer`, GDPO being its "normalize_then_sum"."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(cores())
    device = BACKENDS[options.platform]
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # as JAX does on a GPU by itself
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    texts = prompt_texts(options)
    ids = torch.tensor([tokenizer(text)["input_ids"] for text in texts], device=device)
    assert ids.shape == (RECORDS, options.prompt_length)
    half, few = options.prompt_length // 2, ids[: options.prompts]
    with torch.no_grad():
        logits = model(few).logits[:, half - 1 : -1].log_softmax(-1)
    scored = logits.gather(-1, few[:, half:, None]).mean().item()
    ended, lengths = [], []

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **others):
            ended.append(time.perf_counter())

    def reward(function):
        def named(completions, completion_ids, **others):
            lengths.extend(len(row) for row in completion_ids)
            return function(completions)

        named.__name__ = function.__name__
        return named

    with tempfile.TemporaryDirectory() as workdir:
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=[reward(function) for function in REWARDS],
            train_dataset=Dataset.from_list([{"prompt": text} for text in texts]),
            args=GRPOConfig(
                output_dir=workdir,
                multi_objective_aggregation="normalize_then_sum",
                per_device_train_batch_size=options.prompts * options.num_samples,
                num_generations=options.num_samples,
                max_completion_length=options.completion_length,
                generation_kwargs={"min_new_tokens": options.completion_length},
                max_steps=options.steps,
                beta=0.0,
                bf16=options.dtype == "bfloat16",
                use_cpu=options.platform == "cpu",
                gradient_checkpointing=False,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            callbacks=[Clock()],
        )
        trainer.train()
    assert min(lengths) == options.completion_length
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else resident_bytes()
    return {"ended": ended, "scored": scored, "peak_bytes": peak}


SIDES = {"jax": run_jax, "trl": run_trl}


def cores() -> int:
    """Cores that this process may use; XLA takes as many."""
    return len(os.sched_getaffinity(0))


def resident_bytes() -> int:
    """The most memory that this process has held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run_side(side: str, folder: Path, options: Options) -> dict:
    """One round of one side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
    for field in dataclasses.fields(options):
        if field.name not in ("models", "rounds", "side", "folder"):
            command += [f"--{field.name.replace('_', '-')}", str(getattr(options, field.name))]
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {
        "JAX_PLATFORMS": BACKENDS[options.platform],
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "HF_HUB_OFFLINE": "1",
    }
    found = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )
    lines = [line for line in found.stdout.splitlines() if line.startswith(RESULT)]
    if found.returncode or not lines:
        raise SystemExit(f"the {side} side failed:\n{found.stderr[-3000:]}")
    return json.loads(lines[-1][len(RESULT) :])


def compare(model: str, options: Options) -> None:
    """Prints one model's times, memory and ratio."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        size = make_folder(model, folder, options)
        found = {side: [] for side in SIDES}
        for _ in range(options.rounds):
            for side in SIDES:
                found[side].append(run_side(side, folder, options))
    print(f"{model}: {size / 1e6:.1f}M parameters, vocabulary {MODELS[model][5]}")
    seconds = {}
    for side, rounds in found.items():
        times = [late - early for r in rounds for early, late in zip(r["ended"], r["ended"][1:])]
        seconds[side] = statistics.median(times)
        peak = max(r["peak_bytes"] for r in rounds) / 2**30
        print(
            f"  {side}  {seconds[side]:9.3f} s a step ({min(times):.3f} to {max(times):.3f}), "
            f"peak {peak:.2f} GiB"
        )
    difference = abs(found["jax"][0]["scored"] - found["trl"][0]["scored"])
    print(f"  mean log-prob of the same tokens differs by {difference:.1e}")
    print(f"  trl / jax  {seconds['trl'] / seconds['jax']:9.2f} x", flush=True)


def main(options: Options) -> None:
    """Prints the ratios of all models, or runs one side."""
    if options.side is not None:
        print(RESULT + json.dumps(SIDES[options.side](options.folder, options)))
        return
    print(
        f"{options.prompts} prompts, P={options.prompt_length}, C={options.completion_length}, "
        f"G={options.num_samples}, {options.platform}, {options.dtype}, {cores()} cores, "
        f"remat {options.remat}, chunk {options.chunk}"
    )
    for model in options.models:
        compare(model, options)


if __name__ == "__main__":
    main(tyro.cli(Options))
