"""What the settings of the paper share (DCR, arXiv 2603.03323), and where we had to choose.

Stated there: circle loss, frozen tail, 250 seemingly toxic and 500 toxic prompts, then the
recipe of Safety-Tuned LLaMAs (arXiv 2309.07875) unchanged: rate 3e-4, batches of 128, 3 epochs of
20,000 general instructions and 1,000 refusals, adapters of rank 8 and alpha 16 on queries and
values. Not stated, and chosen here: layer (the middle one), last token, margin 0.4 and scale 80 of
the loss, and of refinement rate 1e-5 (with warm-up and cosine), all parameters up to the layer,
200 batches of 8 prompts of either kind. GDPO behind it is ours.

Where this differs from stage two as published: no dropout in adapters (theirs 0.05), no loss on the
prompt (theirs has one), prompts and answers of at most 128 and 256 tokens apart where theirs have
256 together, longer ones left out instead of cut, and the model's chat template in place of
Alpaca's. The paper's own 1,000 safe answers are not public: the safety-tuned set's stand in for
them. Its toxic prompts of refinement are HH-RLHF's; XSTest's own contrast prompts are the default
here, since a contrast with HH-RLHF can learn the style of a set, and types of XSTest are held out.
"""

from typing import Any

from experiments.common.runs.settings import Imitation, Optimization
from experiments.dcr.ablation import Ablation
from experiments.dcr.refinement import Refinement
from experiments.dcr.refusal_vectors import Steering
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import LoraConfig
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig, SFTConfig

GENERAL, REFUSALS, AUGMENTED = 20_000, 1_000, 250
PROMPTS, ANSWERS = (64, 128), (128, 256)
_LORA = LoraConfig(rank=8, alpha=16.0, targets=("query", "value"))
_BATCH, _EPOCHS = 128, 3
_STEPS = _EPOCHS * (GENERAL + REFUSALS) // _BATCH


def refinement(*, layer: int, steps: int = 200) -> Refinement:
    """Stage one up to a layer."""
    return Refinement(
        layer=layer,
        run=SFTConfig(
            steps=steps,
            batch_size=16,
            prompt_buckets=PROMPTS,
            completion_buckets=(),
            checkpoint_every=steps,
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-5, warmup_updates=steps // 20, schedule="cosine", total_updates=steps
        ),
    )


def safety_tuning(*, micro_batches: int = 4) -> Imitation:
    """Stage two."""
    return Imitation(
        run=SFTConfig(
            steps=_STEPS,
            batch_size=_BATCH,
            prompt_buckets=PROMPTS,
            completion_buckets=ANSWERS,
            accumulation_steps=micro_batches,
            checkpoint_every=100,
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-4, warmup_updates=_STEPS // 20, total_updates=_STEPS, schedule="cosine"
        ),
        lora=_LORA,
    )


def reinforcement(*, steps: int = 200) -> Optimization:
    """GDPO: 16 prompts with 8 answers each."""
    return Optimization(
        run=PolicyOptimizationConfig(
            steps=steps,
            prompts_per_step=16,
            num_samples=8,
            prompt_buckets=PROMPTS,
            checkpoint_every=50,
        ),
        optimizer=OptimizerConfig(learning_rate=1e-5, warmup_updates=10, b2=0.99),
        objective=ObjectiveConfig(kl="k3", kl_coef=0.01, aggregation="dapo"),
        lora=_LORA,
    )


def stages(layer: int) -> dict[str, Any]:
    """All stages, refined up to a layer."""
    return {
        "refine": refinement(layer=layer),
        "sft": safety_tuning(),
        "rl": reinforcement(),
        "steer": Steering(),
        "ablate": Ablation(layer=layer),
    }
