"""Who says which sensitivity a user has."""

import json
import sys

import pytest

from experiments.common.chats.endpoint import endpoint_model
from experiments.common.judges.verdict import Verdict
from experiments.saferec.data.judges import (
    chat_judge,
    command_judge,
    function_judge,
    question,
    request,
    rule_judge,
)
from experiments.saferec.data.own_conversations import corpus_record
from experiments.saferec.oracle.catalogue import film_oracle
from experiments.saferec.oracle.traits import TRAIT_KEYS
from gdpo_jax.errors import UserError
from tests.experiments.chat_server import Reply, chat
from tests.experiments.saferec.films import ANIMALS, FILMS, GORE, HORROR
from tests.experiments.saferec.plain_corpus import ROW, SELF_HARM

ORACLE = film_oracle(FILMS)


def test_the_rule_judge():
    record = corpus_record(ROW, 0)

    def judge(record, trait_keys):
        [verdict] = rule_judge(ORACLE, trait_keys)([record])
        return verdict

    # Every listed film but one violates some trait. The user likes The Red Mill, so that its traits
    # come last; the first of those of Night & Bell is self-harm, (0.4 + 3 * 0.4) / 2.4 = 0.67.
    assert judge(record, TRAIT_KEYS) == Verdict(SELF_HARM, "1 of the 3 listed items violate it")
    assert judge(record, (GORE, HORROR)).label == HORROR
    assert judge(record, (GORE, ANIMALS)).label == GORE
    # A trait that all of what the user likes violates would contradict the user.
    only = corpus_record({**ROW, "groundtruth_with_release_year": [["The Red Mill", 1999]]}, 0)
    assert judge(only, (GORE,)).label is None
    assert judge(record, (ANIMALS,)).label is None


def test_function_judges(tmp_path, monkeypatch):
    (tmp_path / "my_judges.py").write_text(
        "def pair(record, traits): return traits[2], 'third'\n"
        "def table(record, traits): return {'assigned_trait': traits[0], 'reason': 'first'}\n"
        "def key(record, traits): return traits[1]\n"
        "def none(record, traits): return None\n"
        "def wrong(record, traits): return 'Gory'\n"
        "def fails(record, traits): return record['nothing']\n"
        "value = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    record = corpus_record(ROW, 0)
    answers = {
        "pair": (TRAIT_KEYS[2], "third"),
        "table": (TRAIT_KEYS[0], "first"),
        "key": (TRAIT_KEYS[1], "no reason given"),
        "none": (None, "no reason given"),
        "wrong": (None, "the judge's answer 'Gory' is no trait"),
    }
    for name, answer in answers.items():
        [verdict] = function_judge(f"my_judges:{name}", TRAIT_KEYS)([record])
        assert (verdict.label, verdict.reason) == answer
        assert verdict.read == (name != "wrong")
    with pytest.raises(UserError, match=r"failed on record 'a': KeyError\('nothing'\)"):
        function_judge("my_judges:fails", TRAIT_KEYS)([record])
    for name, message in (
        ("my_judges:absent", "no attribute 'absent'; give MODULE:FUNCTION, or rules"),
        ("no_such_module:f", "No module named"),
        ("rule", "give MODULE:FUNCTION"),
        ("my_judges:value", "is a int, not a function"),
    ):
        with pytest.raises(UserError, match=message):
            function_judge(name, TRAIT_KEYS)


def test_command_judges(tmp_path):
    script = tmp_path / "judge.py"
    script.write_text(
        "import json, sys\n"
        "asked = json.load(sys.stdin)\n"
        "mode = sys.argv[1]\n"
        "if mode == 'fail': sys.exit('out of tokens')\n"
        "if mode == 'chat': print('I would say gore'); sys.exit()\n"
        "print(json.dumps({'assigned_trait': asked['traits'][2],\n"
        "                  'reason': asked['record']['prompt'][0]['content']}))\n"
    )
    record = corpus_record(ROW, 0)

    def ask(mode):
        command = f"{sys.executable} {script} {mode}"
        [verdict] = command_judge(command, TRAIT_KEYS)([record])
        return verdict

    good, talk = ask("good"), ask("chat")
    assert (good.label, good.reason, good.read) == (GORE, "Films like Heat?", True)
    assert (talk.label, talk.read) == (None, False)
    assert talk.reason == "the judge's answer is not JSON: 'I would say gore\\n'"
    with pytest.raises(UserError, match="record 'a': status 1, out of tokens"):
        ask("fail")
    with pytest.raises(UserError, match="no-such-command"):
        command_judge("no-such-command", TRAIT_KEYS)([record])
    with pytest.raises(UserError, match="the judge's command is empty"):
        command_judge(" ", TRAIT_KEYS)
    with pytest.raises(UserError, match="cannot be read: No closing quotation"):
        command_judge("judge 'x", TRAIT_KEYS)


def test_the_question_holds_traits_conversation_and_list():
    record = corpus_record({**ROW, "teacher": [["The Red Mill", 1999]]}, 0)
    system, user = question(record, TRAIT_KEYS)
    assert "assigned_trait" in system["content"]
    assert all(key in user["content"] for key in TRAIT_KEYS)
    assert "Films like Heat?" in user["content"]
    assert user["content"].endswith("The Red Mill (1999)")


def test_what_a_verdict_is_remembered_by():
    record = corpus_record(ROW, 0)
    known = request(record, TRAIT_KEYS)
    assert known == request(corpus_record({**ROW, "sample_id": "b"}, 0), TRAIT_KEYS)
    for change in ({"prompt": "x"}, {"teacher": []}, {"groundtruth_with_release_year": []}):
        assert request(corpus_record({**ROW, **change}, 0), TRAIT_KEYS) != known
    assert request(record, (GORE,)) != known


def test_chat_judges(chat_server):
    record = corpus_record(ROW, 0)
    judge = chat_judge(endpoint_model(chat_server.url, model="m", retries=0), TRAIT_KEYS)
    found = {"assigned_trait": GORE, "reason": "blood"}
    for text, label, reason in (
        (json.dumps(found), GORE, "blood"),
        (f"Here you are:\n```json\n{json.dumps(found)}\n```", GORE, "blood"),
        ('{"assigned_trait": null}', None, "no reason given"),
    ):
        chat_server.replies = [chat(text)]
        [verdict] = judge([record])
        assert (verdict.label, verdict.reason, verdict.read) == (label, reason, True)
    assert chat_server.bodies[0]["messages"] == question(record, TRAIT_KEYS)
    assert chat_server.bodies[0]["max_tokens"] == 150
    for text, reason in (
        ('{"assigned_trait": "Gory"}', "the judge's answer 'Gory' is no trait"),
        ("gore", "the judge's answer is not JSON: 'gore'"),
        (None, "the judge's answer is not JSON: ''"),
    ):
        chat_server.replies = [chat(text), chat("still gore")]
        [verdict] = judge([record])
        assert (verdict.label, verdict.reason, verdict.read) == (None, reason, False)
        chat_server.replies = [chat(text), chat(json.dumps(found))]
        assert judge([record])[0].label == GORE
    chat_server.replies = [Reply(b"", 401)]
    with pytest.raises(UserError, match="record 'a': status 401"):
        judge([record])
