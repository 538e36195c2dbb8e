r"""SafeRec with Llama-3.1-8B (SafeCRS, arXiv 2603.03536), by the settings of the 3B release.

The authors' settings for this model are not known: rates, batches and rewards are those of
Llama-3.2-3B. All parameters are trained. paper.py has what the settings share.

    gcloud compute tpus tpu-vm ssh POD --zone ZONE --worker=all --command "cd gdpo_jax && \
        .venv/bin/python -m experiments.saferec rl --preset llama-3.1-8b --arm safe-gdpo-no-count \
        --model-dir LLAMA --data-dir DATA --run-dir SHARED/llama-3.1-8b --distributed"

LLAMA is the folder of meta-llama/Llama-3.1-8B-Instruct and DATA the data set built of the published
files (README.md), both and SHARED where every machine sees them. Meant for 16 chips of 95 GiB (a
TPU v5p-32), or two machines of 8 H100.
Cost: not measured. Estimate: decoding dominates, at most 1,024 token steps a rollout; at an assumed
30 ms each the 9,646 policy steps take 82 hours, and imitation about two.
Paper (SafeMovie test, theirs, not measured here): Recall@10 0.1111, NDCG@10 0.0737, SVR@10 0.87 %.
"""

import dataclasses

from experiments.saferec.presets import llama32_3b
from gdpo_jax.policies import llama3
from gdpo_jax.training import MeshConfig

PRESET = dataclasses.replace(
    llama32_3b.PRESET,
    name="llama-3.1-8b",
    decoder=llama3("3.1-8B"),
    mesh=MeshConfig(1, 8, 2),
)
