"""The command `strength` on a run of three arms with random parameters."""

import json

import numpy as np
import pytest

from experiments.common.chats.log_probs import answer_log_probs, next_token_log_probs
from experiments.common.command_line import Data, Experiment, main
from experiments.common.embedded.policies import new_model, tokenizer_of
from experiments.common.runs.arms import Arm
from experiments.common.runs.stages import NoTraining
from experiments.persona_leakage.answering import Remembered
from experiments.persona_leakage.commands.strength import measuring_strength
from experiments.persona_leakage.measures.strength import read_strengths
from experiments.persona_leakage.metrics import METRICS, score
from experiments.persona_leakage.settings import PersonaPreset
from gdpo_jax.errors import UserError
from gdpo_jax.policies import DecoderConfig
from gdpo_jax.training import MeshConfig, make_mesh
from tests.experiments.persona_leakage.attack_cases import RECORDS, USERS

TINY = DecoderConfig(vocab_size=400, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1,
                     head_dim=8, d_ff=32, max_positions=96)  # fmt: skip
STRANGERS = RECORDS[:3]
# Every other owner has notes.
OWNERS = [
    {"id": f"{user.id}/{turn}", "user": user.id, "role": "owner", "half": user.half, "kind": "fact",
     "keys": (), "neutral": "", "request": "How do I cook rice?",
     "notes": (user.marks[0].text,) * (n % 2)}
    for n, user in enumerate(USERS)
    for turn in range(2)
]  # fmt: skip


def open_data(folder, preset, own):
    rows = [{"notes": (), **row, "prompt": [{"role": "user", "content": row["request"]}]}
            for row in (*STRANGERS, *OWNERS)]  # fmt: skip
    return Data({"train": [], "validation": [], "test": rows})


def tokenizer(data, preset):
    rows = [{"prompt": row["request"], "completion": row["neutral"]} for row in RECORDS]
    return tokenizer_of(rows, vocab_size=400)


EXPERIMENT = Experiment(
    name="persona_toy",
    title="A toy",
    open_data=open_data,
    presets={"tiny": PersonaPreset(name="tiny", decoder=TINY, stages={}, max_new_tokens=6)},
    arms=(
        Arm(name="shared", title="none", stage=NoTraining()),
        Arm(name="shared-without", title="none, without half", stage=NoTraining()),
        Arm(name="separation", title="notes", stage=NoTraining(), answer=Remembered()),
    ),
    tokenizer=tokenizer,
    examples={},
    score=score,
    metrics=METRICS,
)


def told(capsys, *arguments):
    partners = {"shared": "shared-without"}
    command = measuring_strength(
        EXPERIMENT, partners=partners, remembering="separation", pooled="shared"
    )
    status = main(EXPERIMENT, {"strength": command}, arguments)
    captured = capsys.readouterr()
    return status, " ".join((captured.out + captured.err).split())


def test_strengths_of_a_run(capsys, tmp_path):
    run = ["--run-dir", str(tmp_path / "run")]
    status, text = told(capsys, "strength", *run)
    assert status == 2 and "is no run folder" in text, text
    assert told(capsys, "train", *run, "--arm", "shared-without")[0] == 0
    status, text = told(capsys, "strength", *run)
    assert status == 2 and "'shared', seed 0 has no scores; run python -m" in text, text
    assert told(capsys, "train", *run, "--arm", "shared")[0] == 0
    seed = tmp_path / "run" / "seed-0"
    # Two owners of half a hear a mark of theirs once of two times, the first one without as well;
    # of three strangers one hears the second one's.
    for arm, said in {
        "shared": {0: [0], 1: [0]},
        "shared-without": {0: [1], 1: []},
    }.items():
        path = seed / arm / "outputs.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for user, turns in said.items():
            for turn in turns:
                rows[len(STRANGERS) + 2 * user + turn]["text"] = USERS[user].marks[0].text
        if arm == "shared":
            rows[1]["text"] = USERS[1].marks[1].text
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, text = told(capsys, "strength", *run)
    assert status == 0, text
    assert str(seed / "strengths.jsonl") in text and "user-23" in text
    kl = read_strengths(seed / "strengths.jsonl")
    assert [one.user for one in kl] == [user.id for user in USERS]
    assert all((one.strength > 1e-6) == bool(n % 2) for n, one in enumerate(kl))
    recall = read_strengths(seed / "strengths-recall.jsonl")
    assert [one.strength for one in recall[:3]] == [0, 0.5, 0] and len(recall) == 12
    for found in (kl, recall):
        assert [one.leakage for one in found[:3]] == pytest.approx([0, 1 / 3, 0])
    assert np.isnan(kl[12].leakage)


def test_whole_distributions_agree_with_log_probs_of_answers():
    words = tokenizer(None, None)
    model = new_model(TINY, words, make_mesh(MeshConfig()), 0)
    # More than one batch for each of the devices that tests have.
    prompts = [[5, 6, 7], [8], [9, 10]] * 3
    answers = [[11, 12], [13, 14, 15], [16]] * 3
    batches = list(next_token_log_probs(model, prompts, answers, batch_size=1))
    assert len(batches) > 1
    found = np.concatenate(batches)
    np.testing.assert_allclose(np.exp(found).sum(axis=-1), 1.0, rtol=1e-5)
    expected = answer_log_probs(model, prompts, [[one] for one in answers], batch_size=9)[:, 0]
    sums = [sum(found[n, t, token] for t, token in enumerate(a)) for n, a in enumerate(answers)]
    np.testing.assert_allclose(sums, expected, rtol=1e-5)
    assert list(next_token_log_probs(model, [], [], batch_size=2)) == []
    with pytest.raises(UserError, match="exceed the policy's 96 positions"):
        next(next_token_log_probs(model, [[1] * 96], [[1]], batch_size=2))
