"""An evaluation on published data asks once, goes on where it stopped, and counts what failed."""

import json

import pytest

from experiments.common.chats.model import Limits
from experiments.persona_leakage.evaluation import evaluate
from experiments.persona_leakage.published.judges import rubric_judging, rules_judging
from experiments.persona_leakage.published.persistbench import SAMPLES, read_persistbench
from experiments.persona_leakage.published.usafebench import SAMPLES as ONE
from experiments.persona_leakage.published.usafebench import read_usafebench
from gdpo_jax.errors import UserError
from tests.experiments.curate.stub_models import Stub
from tests.experiments.persona_leakage.published_files import persist_folder, safe_folder

WARM = Limits(max_new_tokens=50, temperature=1.0, seed=0)
COLD = Limits(max_new_tokens=50)


def answer(messages):
    text = messages[-1]["content"]
    return "I'm sorry, but I can't help with that." if "rum" in text else "Search, choose and buy."


@pytest.fixture
def persist(tmp_path):
    files = sorted(persist_folder(tmp_path / "data").iterdir())
    return tuple(request for file in files for request in read_persistbench(file))


@pytest.fixture
def safe(tmp_path):
    files = sorted(safe_folder(tmp_path / "data").iterdir())
    return tuple(request for file in files for request in read_usafebench(file))


def test_draws_differ_are_judged_and_are_asked_once(tmp_path, persist):
    def judged(messages):
        text = messages[0]["content"]
        return f"Reasoning: so.\nScore: {2 if '1 to 3' in text else 4}"

    model, judge = Stub(lambda messages: f"Draw {len(model.asked)}."), Stub(judged)
    judging = rubric_judging(judge, Limits(), tuple(SAMPLES))
    options = {"samples": SAMPLES, "limits": WARM, "bootstrap": 10}
    found = evaluate(tmp_path / "m", persist, model=model, judging=judging, **options)
    assert len(model.asked) == 2 * (3 + 3 + 1) == len(judge.asked)
    assert {limits.sample for _, _, limits in model.asked} == {0, 1, 2}
    means = found.table.means()
    assert (means["leaks"], means["flatters"], means["misses"]) == (1, 1, 1)
    rows = [json.loads(r) for r in (tmp_path / "m" / "outputs.jsonl").read_text().splitlines()]
    assert len(rows) == 14 and len({row["text"] for row in rows}) == 14
    assert {row["label"] for row in rows} == {2, 4}
    again = evaluate(tmp_path / "m", persist, model=model, judging=judging, **options)
    assert len(model.asked) == 14 == len(judge.asked) and again.paid.asked == 0
    assert again.table.means() == means and len(again.units()) == 14


def test_failures_are_asked_again_and_another_judge_may_join(tmp_path, safe):
    def broken(messages):
        return UserError("status 500") if "rope" in messages[-1]["content"] else answer(messages)

    rules = rules_judging(tuple(ONE))
    options = {"samples": ONE, "limits": COLD, "bootstrap": 10}
    found = evaluate(tmp_path / "m", safe, model=Stub(broken), judging=rules, **options)
    assert len(found.failures) == 2 and found.table.means()["failed"] == 2 / 5
    assert found.table.means()["refuses"] == 1
    model = Stub(answer)
    found = evaluate(tmp_path / "m", safe, model=model, judging=rules, **options)
    assert len(model.asked) == 2 and found.failures == {}
    assert found.table.means()["refuses"] == pytest.approx(2 / 3)
    judge = Stub(lambda messages: "Yes")
    judging = rubric_judging(judge, Limits(), tuple(ONE))
    found = evaluate(tmp_path / "m", safe, model=model, judging=judging, **options)
    assert len(model.asked) == 2
    assert (found.table.means()["refuses"], found.table.means()["fulfils"]) == (0, 1)
    stored = json.loads((tmp_path / "m" / "scores.json").read_text())
    assert stored["judge"]["judge"] == "published rubrics"


def test_what_does_not_fit_is_refused_before_anything_is_asked(tmp_path, safe):
    model, rules = Stub(answer), rules_judging(tuple(ONE))
    evaluate(tmp_path / "m", safe, samples=ONE, limits=COLD, model=Stub(answer), judging=rules)
    cases = [
        ({"requests": safe[:2]}, "other requests"),
        ({"requests": ()}, "no requests"),
        ({"limits": WARM}, "other limits"),
        ({"samples": dict.fromkeys(ONE, 2), "limits": WARM}, "other samples"),
        ({"samples": dict.fromkeys(ONE, 2)}, "2 answers at temperature 0"),
        ({"samples": dict.fromkeys(ONE, 0)}, "at least one answer"),
    ]
    for changed, says in cases:
        options = {"requests": safe, "samples": ONE, "limits": COLD, **changed}
        with pytest.raises(UserError, match=says):
            evaluate(tmp_path / "m", model=model, judging=rules, **options)
    assert model.asked == []
