r"""DCR with Qwen2.5-1.5B (arXiv 2603.03323); paper.py has what the settings share.

    python -m experiments.dcr data --source PUBLISHED --data-dir DATA
    python -m experiments.dcr reproduce --preset qwen2.5-1.5b --model-dir QWEN --data-dir DATA \
        --run-dir runs/qwen2.5-1.5b

QWEN is the folder of a Qwen2.5-1.5B with a chat template; whether the paper took the base or the
Instruct model is not known. PUBLISHED holds XSTest, Alpaca, the safety-tuned set and CoCoNot's
preference pairs (docs/dcr_data.md). Meant for one accelerator.
Cost: not measured. At most 17.8 GiB by plan (`--dry-run` on a CPU), in the policy step.
Paper (theirs, second-hand, not measured here): compliance on XSTest .73 after safety tuning and .98
after DCR, which was trained on XSTest; on OR-Bench .72 and .83; safety .72 and .81.
"""

from experiments.common.runs.settings import PretrainedStart
from experiments.dcr.presets import paper
from experiments.dcr.settings import DcrPreset, PublishedSources
from gdpo_jax.policies import qwen25
from gdpo_jax.training import MeshConfig

PRESET = DcrPreset(
    name="qwen2.5-1.5b",
    max_new_tokens=256,
    decoder=qwen25("1.5B"),
    pretrained=PretrainedStart(dtype="bfloat16", remat="layer"),
    stages=paper.stages(layer=14),
    general=paper.GENERAL,
    refusals=paper.REFUSALS,
    augmented=paper.AUGMENTED,
    published=PublishedSources(),
    mesh=MeshConfig(1, 1, 1),
    evaluation_batch=64,
)
