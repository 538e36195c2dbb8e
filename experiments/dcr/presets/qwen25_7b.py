r"""DCR with Qwen2.5-7B (arXiv 2603.03323); paper.py has what the settings share.

    python -m experiments.dcr reproduce --preset qwen2.5-7b --model-dir QWEN --data-dir DATA \
        --run-dir runs/qwen2.5-7b

DATA as for `qwen2.5-1.5b`. Meant for one machine of 8 accelerators of 80 GiB.
Cost: not measured. At most 33.3 GiB a device by plan (`--dry-run` on CPUs), in the sampler.
Paper (theirs, second-hand and attributed to this model by elimination, not measured here):
compliance on XSTest .66 after safety tuning and .93 after DCR, which was trained on XSTest; on
OR-Bench .34 and .71; safety .95 and .94.
"""

import dataclasses

from experiments.dcr.presets import paper, qwen25_15b
from gdpo_jax.policies import qwen25
from gdpo_jax.training import MeshConfig

PRESET = dataclasses.replace(
    qwen25_15b.PRESET,
    name="qwen2.5-7b",
    decoder=qwen25("7B"),
    stages=paper.stages(layer=14),
    mesh=MeshConfig(1, 8, 1),
)
