r"""SafeRec with Llama-3.2-3B (SafeCRS, arXiv 2603.03536): the command of the authors' release.

All parameters are trained in both stages, without a count reward. paper.py has what the three
settings share.

    python -m experiments.saferec rl --preset llama-3.2-3b --arm safe-gdpo-no-count \
        --model-dir LLAMA --data-dir DATA --run-dir runs/llama-3.2-3b

LLAMA is the folder of meta-llama/Llama-3.2-3B-Instruct and DATA the data set built of the published
files (README.md). Meant for one machine of 8 GPUs of 80 GiB, or two as

    srun --nodes 2 --ntasks-per-node 8 --gpus-per-task 1 python -m experiments.saferec rl \
        --preset llama-3.2-3b --arm safe-gdpo-no-count --mesh 1x8x2 --model-dir LLAMA \
        --data-dir DATA --run-dir SHARED/llama-3.2-3b --distributed

Cost: not measured. Estimate: decoding dominates, at most 1,024 token steps a rollout; at an assumed
20 ms each the 9,646 policy steps take 55 hours, and imitation about one.
Paper: no number of this model is known to us. Every arm with a count reward equals the one without
here, because the release gives that reward no weight.
"""

from experiments.common.runs.settings import PretrainedStart
from experiments.saferec.presets import paper
from experiments.saferec.settings import OfficialRewards, SafeRecPreset
from gdpo_jax.policies import llama3
from gdpo_jax.training import MeshConfig

# 2 x 12 x 8 = 192 rows a batch, 10 epochs of 99 updates planned.
_IMITATION = paper.imitation(batch_size=192, planned=994)

PRESET = SafeRecPreset(
    name="llama-3.2-3b",
    list_length=10,
    max_new_tokens=1024,
    decoder=llama3("3.2-3B"),
    pretrained=PretrainedStart(dtype="bfloat16", remat="layer"),
    stages={
        "sft": _IMITATION,
        "safe-sft": _IMITATION,
        "rl": paper.reinforcement(steps=9646, drop_at=8000),
    },
    level="sequence",
    official=OfficialRewards(lambda_safe=1.0, lambda_count=0.0),
    mesh=MeshConfig(1, 8, 1),
    evaluation_batch=64,
)
