"""What comparisons with other libraries share: the JAX side of a step, prompts, rewards, table.

Each side of a comparison is a function of a Hugging Face folder and the options. It takes
`options.steps` steps with a tick of a `Clock` at the end of each, and gives `result_of` them.
`main` runs every side in a process of its own, one after the other, in alternation.

Of a step the time and the core-seconds of all threads are printed: where others use the cores as
well, times grow by what they take, core-seconds by little.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
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
    chunk: int = 16  # of the JAX side; as many tokens as there are: all logits at once
    side: str | None = None  # run that side on `folder` and print one line of JSON
    folder: Path | None = None  # with the model


Side = Callable[[Path, Options], dict[str, Any]]


class Clock:
    """When each step ended, and the core-seconds that this process had used by then."""

    def __init__(self):
        self.ended: list[float] = []
        self.used: list[float] = []

    def tick(self) -> None:
        self.ended.append(time.perf_counter())
        self.used.append(time.process_time())


def result_of(clock: Clock, scored: float, peak_bytes: int) -> dict[str, Any]:
    """What a side returns. scored: mean log-prob of `scored_rows` with float32 products."""
    return {
        "seconds": np.diff(clock.ended).tolist(),
        "core-seconds": np.diff(clock.used).tolist(),
        "scored": scored,
        "peak_bytes": peak_bytes,
    }


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


def scored_rows(ids: Any, options: Options) -> tuple[Any, int]:
    """The prompts whose log-probs the sides compare, and where what is scored of each begins."""
    return ids[: options.prompts], options.prompt_length // 2


def make_folder(model: str, folder: Path, options: Options, fields: Mapping[str, Any]) -> int:
    """Random weights and a tokenizer of bytes in a Hugging Face folder; the count of parameters.

    fields: of the decoder's configuration, in place of its defaults.
    """
    import jax

    from gdpo_jax.policies import decoder_policy, num_params, save_pretrained, train_tokenizer

    # A GPU is for the processes that are measured.
    jax.config.update("jax_platforms", "cpu")
    longest = options.prompt_length + options.completion_length
    config = decoder_config(model, max_positions=longest, **fields)
    params = jax.jit(decoder_policy(config).init)(jax.random.key(0))
    tokenizer = train_tokenizer([], vocab_size=259)
    save_pretrained(folder, config, params, tokenizer)
    return num_params(params)


def open_folder(folder: Path, options: Options) -> tuple[Any, Any, Any, np.ndarray, float]:
    """Of the JAX side: policy, parameters, tokenizer, prompts `[N, P]` and `scored`."""
    import jax
    import jax.numpy as jnp

    from gdpo_jax.policies import (
        completion_log_probs,
        decoder_policy,
        load_pretrained,
        open_pretrained,
    )

    opened = open_pretrained(folder, remat=options.remat, dtype=options.dtype)
    policy, tokenizer = decoder_policy(opened.config), opened.tokenizer()
    exact = decoder_policy(dataclasses.replace(opened.config, dtype="float32"))
    params = load_pretrained(opened)
    ids = np.array([tokenizer.encode(text) for text in prompt_texts(options)], np.int32)
    few, half = scored_rows(ids, options)
    rows = (few[:, :half], np.full(len(few), half, np.int32), few[:, None, half:])
    log_probs = jax.jit(lambda p, *rows: completion_log_probs(exact, p, *rows, chunk=None)[0])
    scored = float(jnp.mean(log_probs(params, *rows, np.ones(rows[2].shape, bool))))
    return policy, params, tokenizer, ids, scored


def open_torch(folder: Path, options: Options) -> tuple[Any, Any, np.ndarray, float]:
    """Of sides on torch: transformers' model and tokenizer, prompts `[N, P]` and `scored`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(cores())
    device = BACKENDS[options.platform]
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # as JAX does on a GPU by itself
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    ids = np.array([tokenizer(text)["input_ids"] for text in prompt_texts(options)])
    assert ids.shape == (RECORDS, options.prompt_length)
    few, half = scored_rows(torch.tensor(ids, device=device), options)
    with torch.no_grad():
        logits = model(few).logits[:, half - 1 : -1].log_softmax(-1)
    scored = logits.gather(-1, few[:, half:, None]).mean().item()
    return model, tokenizer, ids, scored


def run_jax(folder: Path, options: Options) -> dict[str, Any]:
    """Steps of `run_policy_optimization`."""
    import jax

    from gdpo_jax.advantages import gdpo
    from gdpo_jax.data import record_batches
    from gdpo_jax.objectives import ObjectiveConfig
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

    policy, params, tokenizer, ids, scored = open_folder(folder, options)
    mesh = make_mesh()
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-6))
    engine = jax_engine(
        policy,
        SamplerConfig(
            max_new_tokens=options.completion_length, stop_ids=(), pad_id=tokenizer.pad_id
        ),
        batch_sharding=batch_sharding(mesh),
    )
    clock, lengths = Clock(), []

    def on_step(sample):
        clock.tick()
        lengths.append(sample.metrics["completions/length_min"])

    with tempfile.TemporaryDirectory() as workdir:
        run_policy_optimization(
            policy,
            engine,
            create_state(policy, optimizer, key=jax.random.key(0), mesh=mesh, params=params),
            optimizer=optimizer,
            objective=ObjectiveConfig(),
            transform=gdpo(convention="trl"),
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
    return result_of(clock, scored, peak_bytes())


def cores() -> int:
    """Cores that this process may use; XLA takes as many."""
    return len(os.sched_getaffinity(0))


def resident_bytes() -> int:
    """The most memory that this process has held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_bytes() -> int:
    """The most memory that JAX has held on a GPU, or this process without one."""
    import jax

    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use") or resident_bytes()


def run_side(script: str, side: str, folder: Path, options: Options) -> dict[str, Any]:
    """One round of one side in a process of its own."""
    command = [sys.executable, script, "--side", side, "--folder", str(folder)]
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


def compare(
    model: str, script: str, sides: Sequence[str], options: Options, fields: Mapping[str, Any]
) -> None:
    """Prints one model's times, memory and the ratio of the second side to the first."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        size = make_folder(model, folder, options, fields)
        found = {side: [] for side in sides}
        for _ in range(options.rounds):
            for side in sides:
                found[side].append(run_side(script, side, folder, options))
    print(f"{model}: {size / 1e6:.1f}M parameters, vocabulary {MODELS[model][5]}")
    width, medians = max(map(len, sides)), {}
    for side, rounds in found.items():
        times, used = ([t for r in rounds for t in r[kind]] for kind in ("seconds", "core-seconds"))
        medians[side] = (statistics.median(times), statistics.median(used))
        peak = max(r["peak_bytes"] for r in rounds) / 2**30
        print(
            f"  {side:{width}}  {medians[side][0]:9.3f} s a step ({min(times):.3f} to "
            f"{max(times):.3f}), {medians[side][1]:.3f} core-seconds, peak {peak:.2f} GiB"
        )
    ours, other = sides
    difference = abs(found[ours][0]["scored"] - found[other][0]["scored"])
    print(f"  mean log-prob of the same tokens differs by {difference:.1e}")
    ratios = [second / first for first, second in zip(medians[ours], medians[other])]
    print(f"  {other} / {ours}, core-seconds  {ratios[1]:9.2f} x")
    print(f"  {other} / {ours}  {ratios[0]:9.2f} x", flush=True)


def main(
    script: str,
    name: str,
    run: Side,
    options: Options,
    fields: Mapping[str, Any] | None = None,
    *,
    ours: Side = run_jax,
) -> None:
    """Prints the ratios of all models between `run`, called `name`, and JAX, or runs one side.

    script: the file to start for each side. fields: as for `make_folder`. ours: the JAX side.
    """
    sides = {"jax": ours, name: run}
    if options.side is not None:
        assert options.folder is not None
        print(RESULT + json.dumps(sides[options.side](options.folder, options)))
        return
    print(
        f"{options.prompts} prompts, P={options.prompt_length}, C={options.completion_length}, "
        f"G={options.num_samples}, {options.platform}, {options.dtype}, {cores()} cores, "
        f"remat {options.remat}, chunk {options.chunk}"
    )
    for model in options.models:
        compare(model, script, list(sides), options, fields or {})
