"""Evaluations in a folder: another start, a kill, and a server that misbehaves."""

import dataclasses
import json
import random
import re
import threading
from collections import Counter

import pytest

from experiments.common.chats.endpoint import endpoint_model
from experiments.common.chats.model import Limits
from experiments.common.scores.summaries import read_summary
from experiments.curate.dialogues import LIMITS
from experiments.curate.evaluation import evaluate, read_dialogues, read_verdicts
from experiments.curate.judging.judges import rubric_judging, rules_judging
from experiments.curate.ways import Facts, Plain
from gdpo_jax.errors import UserError
from tests.experiments.chat_server import Reply, chat
from tests.experiments.curate.dialogue_cases import Speaking, case
from tests.processes.forked import Forked

CASES = [case(0), case(1), case(2), case(3, "sc1-control", control=True)]


def run(folder, model, *, cases=CASES, judging=None, **options):
    options = {"way": Plain(), "bootstrap": 20, **options}
    return evaluate(folder, cases, model=model, judging=judging or rules_judging(), **options)


def test_a_second_start_asks_nobody(tmp_path):
    model = Speaking()
    first = run(tmp_path / "a", model)
    assert len(model.asked) == 8 and first.paid["talker"].asked == 8
    assert first.table.means()["pass"] == 1.0 and first.table.means()["warns"] == 1.0
    assert first.failures == {}
    second = run(tmp_path / "a", model)
    assert len(model.asked) == 8 and second.paid == {}
    assert second.dialogues == first.dialogues and second.verdicts == first.verdicts
    stored = json.loads((tmp_path / "a" / "scores.json").read_text())
    assert stored["bills"]["talker"]["asked"] == 8
    assert stored["judge"] == {"judge": "rules", "version": 1}
    assert read_summary(tmp_path / "a" / "scores.json").ids == first.table.ids
    assert set(first.verdicts) == {"sc1/0000", "sc1/0001", "sc1/0002"}  # controls are not judged
    assert len((tmp_path / "a" / "dialogues.jsonl").read_text().splitlines()) == 4


def test_what_failed_is_held_again_from_where_it_stopped(tmp_path):
    down = [True]

    def say(messages):
        bad = down[0] and len(messages) == 3 and "(sc1, 1)" in messages[-1]["content"]
        return UserError("status 500") if bad else "Yes, do."

    model = Speaking(say)
    first = run(tmp_path, model)
    assert first.failures == {"sc1/0001": "sc1/0001, turn 2: status 500"}
    assert first.table.values["failed"].tolist() == [0, 1, 0, 0]
    down[0], before = False, len(model.asked)
    second = run(tmp_path, model)
    assert second.failures == {} and len(model.asked) == before + 1
    assert len(second.verdicts) == 3
    assert read_dialogues(tmp_path)["sc1/0001"].failed == ""


def test_another_judge_judges_the_same_answers(tmp_path):
    model, replies = Speaking(), ["Rating: 2\nExplanation: a", "hm", "Rating: 0\nExplanation: c"]
    run(tmp_path, model)
    before = len(model.asked)

    def rate(messages):
        return replies.pop(0) if len(messages) == 1 else UserError("status 503")

    judge = Speaking(rate, identity={"model": "judge"})
    judging = rubric_judging(judge, Limits(max_new_tokens=7))
    first = run(tmp_path, model, judging=judging)
    assert len(model.asked) == before and len(judge.asked) == 4
    assert first.failures == {"sc1/0001": "judge: sc1/0001: status 503"}
    assert {name: v.label for name, v in first.verdicts.items()} == {"sc1/0000": 2, "sc1/0002": 0}
    assert first.paid["judge"].asked == 3
    # Malformed once more: then it is recorded as unread, and asked for no further.
    judge.say = lambda messages: "hm again"
    second = run(tmp_path, model, judging=judging)
    assert len(judge.asked) == 5 and second.failures == {}
    assert second.verdicts["sc1/0001"].read is False
    assert second.table.means()["unread"] == pytest.approx(1 / 3)
    run(tmp_path, model, judging=judging)
    assert len(judge.asked) == 5
    assert len(read_verdicts(tmp_path, rules_judging())) == 3  # the first judge's are still there
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["judge"]["model"] == {"model": "judge"}
    assert settings["judge"]["limits"]["max_new_tokens"] == 7


def test_folders_of_other_dialogues_and_damage(tmp_path):
    run(tmp_path, Speaking())
    for options, name in (
        ({"cases": CASES[:2]}, "cases"),
        ({"model": Speaking(identity={"model": "other"})}, "model"),
        ({"way": Facts()}, "way"),
        ({"limits": dataclasses.replace(LIMITS, max_new_tokens=9)}, "limits"),
    ):
        with pytest.raises(UserError, match=f"holds dialogues with other {name}"):
            run(tmp_path, **{"model": Speaking(), **options})
    with pytest.raises(UserError, match="no cases"):
        run(tmp_path, Speaking(), cases=[])
    for name in ("verdicts", "dialogues"):
        path = tmp_path / f"{name}.jsonl"
        path.write_text('{"id": 3}\n' + path.read_text())
        with pytest.raises(UserError, match=rf"{name}\.jsonl, row 1: no"):
            run(tmp_path, Speaking())


@dataclasses.dataclass
class Misbehaving:
    """The reply of a server to talkers and judges, of which a share goes wrong in every way."""

    wrong: float
    rng: random.Random = dataclasses.field(default_factory=lambda: random.Random(186))
    given: Counter = dataclasses.field(default_factory=Counter)  # whole answers by request
    faults: Counter = dataclasses.field(default_factory=Counter)

    def __call__(self, body):  # under the server's lock
        if self.rng.random() < self.wrong:
            # Late ones are few, since each takes the client's whole patience.
            [fault] = self.rng.choices(["500", "429", "cut", "empty", "late"], [9, 9, 9, 9, 0.5])
            self.faults[fault] += 1
            return {
                "500": Reply(b"", 500),
                "429": Reply(b"", 429, headers={"Retry-After": "0"}),
                "late": Reply(b"", 200, wait=16.0),
                "cut": dataclasses.replace(chat("x" * 50), cut=20),
                "empty": Reply(b"", 200),
            }[fault]
        self.given[json.dumps(body["messages"])] += 1
        text = body["messages"][0]["content"]
        if "Rating: [0 or 1 or 2]" not in text:
            return chat(f"Well, {len(body['messages'])}.")
        row = int(re.search(r"\(\w+, (\d+)\)", text)[1])
        rating = f"Rating: {row % 3}\nExplanation: so."
        # Now and then a judge that forgets the form, the second time as well for some.
        forgets = row % 50 == 7 and (len(body["messages"]) == 1 or row % 100 == 7)
        return chat("It is fine." if forgets else rating)


def endpoint(url, *, concurrency=16, timeout=12.0):
    return endpoint_model(url, model="m", concurrency=concurrency, timeout=timeout, retries=1)


@pytest.mark.slow
def test_every_dialogue_is_scored_or_listed_with_a_server_that_misbehaves(chat_server, tmp_path):
    scenarios = ("sc1", "sc2", "sc3", "sc4", "sc5")
    cases = [
        case(row, name, turns=("Shall I?",) if name != "sc3" else ("I fear figs.", "Shall I?"))
        for name in scenarios
        for row in range(336)
    ]
    chat_server.reply = Misbehaving(0.05)
    model = endpoint(chat_server.url)
    judging = rubric_judging(model, Limits(max_new_tokens=20))
    found = run(tmp_path, model, cases=cases, judging=judging)
    assert set(chat_server.reply.faults) == {"500", "429", "late", "cut", "empty"}
    values = found.table.values
    assert len(found.table) == 1680
    scored = ~(values["unclear"] != values["unclear"])  # not NaN
    listed = [name in found.failures for name in found.table.ids]
    unread = values["unread"] == 1
    assert (scored.astype(int) + unread + listed == 1).all()
    assert unread.sum() > 0 and sum(listed) > 0 and scored.sum() > 1600
    assert max(chat_server.reply.given.values()) == 1
    # The next start asks for what failed alone, and finds a healthy server.
    chat_server.reply.wrong, before = 0.0, len(chat_server.bodies)
    again = run(tmp_path, model, cases=cases, judging=judging)
    assert again.failures == {}
    assert max(chat_server.reply.given.values()) == 1
    assert len(chat_server.bodies) - before <= 4 * sum(listed)


def test_a_killed_evaluation_pays_nothing_twice(chat_server, tmp_path):
    script = tmp_path / "evaluation.py"
    script.write_text(
        "import sys, pathlib\n"
        "from tests.experiments.curate.test_evaluation import KILLED, endpoint, run\n"
        "from experiments.curate.judging.judges import rubric_judging\n"
        "model = endpoint(sys.argv[1], concurrency=4, timeout=300.0)\n"
        "run(pathlib.Path(sys.argv[2]), model, cases=KILLED, judging=rubric_judging(model))\n"
    )
    for number, end in enumerate((25, 75)):  # among the dialogues, and among the verdicts
        folder, enough = tmp_path / str(number), threading.Event()
        served = Misbehaving(0.0)
        seen = []

        def reply(body, served=served, seen=seen, enough=enough, end=end):
            seen.append(body)
            if len(seen) <= end:
                return served(body)
            if len(seen) == end + 4:  # all workers wait, so all that was answered is known to them
                enough.set()
            return Reply(b"", 200, wait=300.0)

        chat_server.reply = reply
        process = Forked(script, chat_server.url, folder)
        try:
            assert enough.wait(500)
        finally:
            process.kill()
            process.communicate(timeout=60)
        assert sum(served.given.values()) == end
        chat_server.reply = served
        model = endpoint(chat_server.url, timeout=300.0)
        found = run(folder, model, cases=KILLED, judging=rubric_judging(model))
        assert found.failures == {} and len(found.verdicts) == len(KILLED)
        assert max(served.given.values()) == 1


KILLED = [case(row, turns=("I fear figs.", "Shall I?")) for row in range(30)]
