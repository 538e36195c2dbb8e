"""Say a word's first letter: does a reward of short answers, after imitation, cost right ones?"""

import numpy as np

from experiments.common.command_line import Data, Experiment, main
from experiments.common.embedded.policies import tokenizer_of
from experiments.common.embedded.sentences import instance_split
from experiments.common.runs.arms import Arm
from experiments.common.runs.settings import Imitation, Optimization, Preset
from experiments.common.runs.stages import Imitate, Optimize, Rewards
from experiments.common.scores.claims import Claim
from experiments.common.scores.metric import Metric
from experiments.common.scores.table import Table
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import DecoderConfig
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig, SFTConfig

RATE = OptimizerConfig(learning_rate=1e-2)
LEARN = Imitation(run=SFTConfig(steps=40, batch_size=8), optimizer=RATE)
RUN = PolicyOptimizationConfig(steps=2, prompts_per_step=8, num_samples=4)
STAGES = {"learn": LEARN, "rl": Optimization(run=RUN, optimizer=RATE, objective=ObjectiveConfig())}
TINY = DecoderConfig(vocab_size=300, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1,
                     head_dim=8, d_ff=32, max_positions=32)  # fmt: skip


def open_data(folder, preset, own):
    words = [a + b + c for a in "abcd" for b in "abcd" for c in "abcd"]
    rows = [{"id": word, "prompt": f"{word}:", "completion": word[0]} for word in words]
    splits = ("train", "validation", "test")
    return Data({split: [r for r in rows if instance_split(r["id"]) == split] for split in splits})


def brief(completions, records):
    return [-float(len(completion.text)) for completion in completions]


def score(texts, records, data, preset):
    right = np.array([float(text == row["completion"]) for text, row in zip(texts, records)])
    letters = np.array([float(len(text)) for text in texts])
    ids = tuple(row["id"] for row in records)
    return Table(ids=ids, values={"right": right, "letters": letters}, groups={}, clusters=ids)


EXPERIMENT = Experiment(
    name="toy", title="A toy", open_data=open_data, score=score,
    presets={"tiny": Preset(name="tiny", decoder=TINY, stages=STAGES, max_new_tokens=4)},
    arms=(Arm(name="told", title="imitation", stage=Imitate(settings="learn", examples="words")),
          Arm(name="brief", title="imitation, then brevity", start="told",
              stage=Optimize(rewards=("brief",), estimator="rloo", examples="words"))),
    tokenizer=lambda data, preset: tokenizer_of(data.records["train"], vocab_size=300),
    examples={"words": lambda data, preset: data.records["train"]},
    rewards=lambda arm, data, preset: Rewards([brief]),
    metrics=(Metric("right", "right", better="more"), Metric("letters", "letters", better="less")),
    claims=(Claim("brevity costs no right answers", lambda value: (
        value("brief", "right") >= value("told", "right"), f"{value('brief', 'right'):.2f}")),),
)  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
