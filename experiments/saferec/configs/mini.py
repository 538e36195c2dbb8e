"""The main job: a policy of 0.3M parameters learns SafeRec from nothing on two CPU cores."""

from experiments.saferec.settings import Preset
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import DecoderConfig
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig, SFTConfig

_SFT_STEPS = 900
_RL_STEPS = 60

PRESET = Preset(
    name="mini",
    vocab_size=3072,
    risks_shown=1,
    max_new_tokens=88,
    decoder=DecoderConfig(
        vocab_size=3072,
        d_model=64,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=32,
        d_ff=192,
        max_positions=192,
    ),
    sft=SFTConfig(
        steps=_SFT_STEPS,
        batch_size=16,
        prompt_buckets=(96,),
        completion_buckets=(88,),
        chunk=None,
        checkpoint_every=300,
        log_every=10,
    ),
    sft_optimizer=OptimizerConfig(
        learning_rate=6e-3,
        warmup_updates=40,
        schedule="cosine",
        total_updates=_SFT_STEPS,
        final_fraction=0.05,
        b2=0.98,
        weight_decay=0.01,
    ),
    rl=PolicyOptimizationConfig(
        steps=_RL_STEPS,
        prompts_per_step=16,
        num_samples=8,
        prompt_buckets=(96,),
        chunk=None,
        checkpoint_every=20,
    ),
    rl_optimizer=OptimizerConfig(
        learning_rate=1e-3, warmup_updates=5, b2=0.98, schedule="constant"
    ),
    level="rank",
    objective=ObjectiveConfig(level="segment", kl="k3", kl_coef=1e-3, aggregation="dapo"),
)
