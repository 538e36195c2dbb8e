r"""SafeRec with Qwen2.5-0.5B (SafeCRS, arXiv 2603.03536), by the authors' 0.5B script.

Whole parameters imitate the safe targets; reinforcement learning trains adapters of rank 256.
paper.py has what the three settings share.

    python -m experiments.saferec rl --preset qwen2.5-0.5b --model-dir QWEN --data-dir DATA \
        --run-dir runs/qwen2.5-0.5b

QWEN is the folder of Qwen/Qwen2.5-0.5B-Instruct and DATA the data set built of the published files
(README.md); without --data-dir the embedded films are learned. Meant for one machine of 8
accelerators, or four by `--mesh 1x4x1`. `--dry-run` prints what a device holds.
Cost: not measured. Estimate: decoding dominates, at most 1,024 token steps a rollout; at an assumed
10 ms each the 1,400 policy steps take 4 hours, and imitation well under one.
Paper (SafeMovie test, theirs, not measured here): Recall@10 0.0922, NDCG@10 0.0597, SVR@10 0.06 %.
Their development runs, on validation: Safe-SFT 800 has 0.0732, 0.0422 and 1.33 %, and Safe-GDPO
with a count reward after 1,400 steps 0.0724, 0.0446 and 1.20 %. Those had rewards per rank
(`--level rank`), but also other weights (safety 1, count 0.5), groups of 4 and length shaping,
which this file does not set: a copy of it with another `OfficialRewards` and `num_samples` does.
The choice between Instruct and base model, and the steps of the released numbers, are not known.
"""

from experiments.common.runs.settings import PretrainedStart
from experiments.saferec.presets import paper
from experiments.saferec.settings import OfficialRewards, SafeRecPreset
from gdpo_jax.policies import LoraConfig, qwen25
from gdpo_jax.training import MeshConfig

# 96 rows a batch, 7 epochs of 198 updates planned.
_IMITATION = paper.imitation(batch_size=96, planned=1386)

PRESET = SafeRecPreset(
    name="qwen2.5-0.5b",
    list_length=10,
    max_new_tokens=1024,
    decoder=qwen25("0.5B"),
    pretrained=PretrainedStart(dtype="bfloat16", remat="layer"),
    stages={
        "sft": _IMITATION,
        "safe-sft": _IMITATION,
        "rl": paper.reinforcement(steps=1400, drop_at=None, lora=LoraConfig(rank=256, alpha=512.0)),
    },
    level="sequence",
    official=OfficialRewards(lambda_safe=0.1, lambda_count=0.1),
    mesh=MeshConfig(1, 8, 1),
    evaluation_batch=64,
)
