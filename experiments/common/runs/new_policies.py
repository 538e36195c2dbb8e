"""Settings of small policies that learn from nothing, as the embedded comparisons have them."""

import dataclasses
from typing import Any

from experiments.common.runs.settings import Imitation, Optimization
from gdpo_jax.policies import DecoderConfig
from gdpo_jax.training import OptimizerConfig, SFTConfig

__all__ = ["new_decoder", "new_imitation", "shortened"]


def new_decoder(*, vocab_size: int, max_positions: int, num_layers: int = 2) -> DecoderConfig:
    """A decoder of some 0.3M parameters, which two CPU cores train in minutes."""
    return DecoderConfig(
        vocab_size=vocab_size,
        d_model=64,
        num_layers=num_layers,
        num_heads=4,
        num_kv_heads=4,
        head_dim=16,
        d_ff=192,
        max_positions=max_positions,
        remat="dots",
    )


def new_imitation(
    *,
    steps: int,
    batch_size: int,
    prompt_buckets: tuple[int, ...],
    completion_buckets: tuple[int, ...],
    checkpoint_every: int,
    # A model this small wants a rate that would break a large one.
    learning_rate: float = 1e-2,
    sort_batches: int = 1,
) -> Imitation:
    """Imitation of so many batches by such a decoder."""
    return Imitation(
        run=SFTConfig(
            steps=steps,
            batch_size=batch_size,
            prompt_buckets=prompt_buckets,
            completion_buckets=completion_buckets,
            sort_batches=sort_batches,
            chunk=None,
            checkpoint_every=checkpoint_every,
            log_every=10,
        ),
        optimizer=OptimizerConfig(
            learning_rate=learning_rate,
            warmup_updates=40,
            schedule="cosine",
            total_updates=steps,
            final_fraction=0.05,
            b2=0.98,
            weight_decay=0.01,
        ),
    )


def shortened(settings: Any, *, steps: int) -> Any:
    """A stage with `run` and `optimizer` in a few steps, to see that it works: at its widest shape
    alone, since each is compiled, and of few rows."""
    run: dict[str, Any] = {"steps": steps}
    for name in ("prompt_buckets", "completion_buckets"):
        if widths := getattr(settings.run, name, None):
            run[name] = (max(widths),)
    if isinstance(settings, Imitation):
        run |= {"batch_size": 16}
    if isinstance(settings, Optimization):
        run |= {"prompts_per_step": 8, "num_samples": 2}
    return dataclasses.replace(
        settings,
        run=dataclasses.replace(settings.run, **run),
        optimizer=dataclasses.replace(settings.optimizer, total_updates=steps, warmup_updates=1),
    )
