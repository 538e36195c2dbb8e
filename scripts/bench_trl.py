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

import tempfile
from pathlib import Path
from typing import Any

import tyro
from bench_sides import (
    REWARDS,
    Clock,
    Options,
    main,
    open_torch,
    prompt_texts,
    resident_bytes,
    result_of,
)


def run_trl(folder: Path, options: Options) -> dict[str, Any]:
    """Steps of `GRPOTrainer`, GDPO being its "normalize_then_sum"."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer, _, scored = open_torch(folder, options)
    clock, lengths = Clock(), []

    class Ticks(TrainerCallback):
        def on_step_end(self, args, state, control, **others):
            clock.tick()

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
            train_dataset=Dataset.from_list([{"prompt": text} for text in prompt_texts(options)]),
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
            callbacks=[Ticks()],
        )
        trainer.train()
    assert min(lengths) == options.completion_length
    peak = torch.cuda.max_memory_allocated() if options.platform == "gpu" else resident_bytes()
    return result_of(clock, scored, peak)


if __name__ == "__main__":
    main(__file__, "trl", run_trl, tyro.cli(Options))
