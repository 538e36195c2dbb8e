r"""DCR with LLaMA-3-8B (arXiv 2603.03323); paper.py has what the settings share.

    python -m experiments.dcr reproduce --preset llama-3-8b --model-dir LLAMA --data-dir DATA \
        --run-dir runs/llama-3-8b

LLAMA is the folder of meta-llama/Meta-Llama-3-8B-Instruct, which has the chat template that the
base model lacks; DATA as for `qwen2.5-1.5b`. Meant for one machine of 8 accelerators of 80 GiB.
Cost: not measured. At most 35.2 GiB a device by plan (`--dry-run` on CPUs), in the sampler.
Paper (theirs, second-hand, not measured here): compliance on XSTest .79 after safety tuning and .93
after DCR, which was trained on XSTest; on OR-Bench .59 and .85; safety .93 and .91.
"""

import dataclasses

from experiments.dcr.presets import paper, qwen25_15b
from gdpo_jax.policies import llama3
from gdpo_jax.training import MeshConfig

PRESET = dataclasses.replace(
    qwen25_15b.PRESET,
    name="llama-3-8b",
    decoder=llama3("3-8B"),
    stages=paper.stages(layer=16),
    mesh=MeshConfig(1, 8, 1),
)
