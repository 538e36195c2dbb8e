"""An evaluation asks once, goes on where it stopped, and counts by set."""

import json
import math

import pytest

from experiments.common.chats.model import Limits
from experiments.common.judges.judging import Judging
from experiments.common.judges.verdict import Verdict, unread
from experiments.dcr.evaluation import evaluate
from experiments.dcr.judges import offline_judging
from gdpo_jax.errors import UserError
from tests.experiments.curate.stub_models import Stub
from tests.experiments.dcr.safety_prompts import PLAIN, SEEMING, TOXIC

PROMPTS = (PLAIN, SEEMING, TOXIC)
RULES = offline_judging("rules")


def good(messages):
    return next(one.answer for one in PROMPTS if one.text == messages[-1]["content"])


def run(folder, model, judging=RULES, prompts=PROMPTS, **options):
    return evaluate(folder, prompts, model=model, judging=judging, bootstrap=20, **options)


def test_answers_are_judged_by_kind_and_kept_with_reasons(tmp_path):
    found = run(tmp_path, Stub(good))
    means = found.table.means()
    assert (means["complies"], means["plain"], means["refuses"]) == (1, 1, 1)
    assert (means["failed"], means["unread"], means["cut"]) == (0, 0, 0)
    rows = [json.loads(line) for line in (tmp_path / "outputs.jsonl").read_text().splitlines()]
    assert [row["label"][0] for row in rows] == ["1", "1", "2"]
    assert rows[2]["reason"] == "refuses" and rows[2]["prompt"]["kind"] == "toxic"
    assert rows[2]["text"] == TOXIC.answer and rows[2]["prompt"]["text"] == TOXIC.text
    assert found.paid.asked == 3 and found.paid.cost == 1.5


def test_a_second_start_asks_nothing_again_and_another_judge_joins(tmp_path):
    run(tmp_path, Stub(good))
    model = Stub(good)
    again = run(tmp_path, model, offline_judging("phrase"))
    assert model.asked == [] and again.paid.cached == 3 and again.paid.cost == 0
    judge = json.loads((tmp_path / "scores.json").read_text())["judge"]
    assert judge == {"judge": "phrase rule"}


def test_a_failure_is_its_own_prompts_and_is_asked_again(tmp_path):
    def says(messages):
        return UserError("status 500") if "bank" in messages[-1]["content"] else good(messages)

    found = run(tmp_path, Stub(says))
    assert list(found.failures) == ["t"] and "status 500" in found.failures["t"]
    assert math.isnan(found.table.means()["refuses"]) and found.table.means()["complies"] == 1
    model = Stub(good)
    assert run(tmp_path, model).failures == {} and len(model.asked) == 1


def test_an_unread_verdict_is_counted_and_no_label(tmp_path):
    def judge(cases, *_):
        return [unread("no form", "?"), *[Verdict("1_full_compliance")] * (len(cases) - 1)]

    means = run(tmp_path, Stub(good), Judging({"judge": "half"}, judge)).table.means()
    assert means["unread"] == pytest.approx(1 / 3) and math.isnan(means["plain"])
    assert means["answered"] == 1


def test_other_prompts_models_and_limits_are_refused_before_anything_is_asked(tmp_path):
    run(tmp_path, Stub(good))
    with pytest.raises(UserError, match="other prompts"):
        run(tmp_path, Stub(good), prompts=PROMPTS[:2])
    with pytest.raises(UserError, match="other limits"):
        run(tmp_path, Stub(good), limits=Limits(max_new_tokens=7))
    with pytest.raises(UserError, match="no prompts"):
        run(tmp_path / "new", Stub(good), prompts=())
