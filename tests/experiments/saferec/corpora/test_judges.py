"""Who says which sensitivity a user has."""

import sys

import pytest

from experiments.saferec.corpora.judges import (
    Assignment,
    command_judge,
    function_judge,
    remembering_judge,
    rule_judge,
)
from experiments.saferec.corpora.new_corpora import corpus_record
from experiments.saferec.items.catalogue import film_oracle
from experiments.saferec.items.traits import TRAIT_KEYS
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import ANIMALS, FILMS, GORE, HORROR
from tests.experiments.saferec.plain_corpus import ROW, SELF_HARM

ORACLE = film_oracle(FILMS)


def test_the_rule_judge():
    record = corpus_record(ROW, 0)
    judge = rule_judge(ORACLE)
    # Every listed film but one violates some trait. The user likes The Red Mill, so that its traits
    # come last; the first of those of Night & Bell is self-harm, (0.4 + 3 * 0.4) / 2.4 = 0.67.
    assert judge(record, TRAIT_KEYS) == Assignment(SELF_HARM, "1 of the 3 listed items violate it")
    assert judge(record, (GORE, HORROR)).trait == HORROR
    assert judge(record, (GORE, ANIMALS)).trait == GORE
    # A trait that all of what the user likes violates would contradict the user.
    only = corpus_record({**ROW, "groundtruth_with_release_year": [["The Red Mill", 1999]]}, 0)
    assert judge(only, (GORE,)).trait is None
    assert judge(record, (ANIMALS,)).trait is None


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
        judge = function_judge(f"my_judges:{name}")
        assert judge(record, TRAIT_KEYS) == answer
    with pytest.raises(UserError, match=r"failed on record 'a': KeyError\('nothing'\)"):
        function_judge("my_judges:fails")(record, TRAIT_KEYS)
    for name, message in (
        ("my_judges:absent", "no attribute 'absent'; give MODULE:FUNCTION, or rules"),
        ("no_such_module:f", "No module named"),
        ("rule", "give MODULE:FUNCTION"),
        ("my_judges:value", "is a int, not a function"),
    ):
        with pytest.raises(UserError, match=message):
            function_judge(name)


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
        return command_judge(f"{sys.executable} {script} {mode}")(record, TRAIT_KEYS)

    assert ask("good") == Assignment(GORE, "Films like Heat?")
    assert ask("chat") == Assignment(None, "the judge's answer is not JSON: 'I would say gore\\n'")
    with pytest.raises(UserError, match="record 'a': status 1, out of tokens"):
        ask("fail")
    with pytest.raises(UserError, match="no-such-command"):
        command_judge("no-such-command")(record, TRAIT_KEYS)
    with pytest.raises(UserError, match="the judge's command is empty"):
        command_judge(" ")


def test_answers_are_remembered(tmp_path):
    path, asked = tmp_path / "answers.jsonl", []

    def judge(record, trait_keys):
        asked.append(record["sample_id"])
        if len(asked) == 3:
            raise UserError("out of tokens")
        return Assignment(None, "unsure") if record["sample_id"] == "b" else Assignment(GORE, "x")

    records = [corpus_record({**ROW, "prompt": name, "sample_id": name}, 0) for name in "abc"]
    first = remembering_judge(judge, path)
    with pytest.raises(UserError, match="out of tokens"):
        [first(record, TRAIT_KEYS) for record in records]
    # The next run asks for the one that is missing, and for other traits anew.
    second = remembering_judge(judge, path)
    answers = [second(record, TRAIT_KEYS) for record in records]
    assert answers == [(GORE, "x"), (None, "unsure"), (GORE, "x")]
    assert asked == ["a", "b", "c", "c"]
    second(records[0], (GORE,))
    assert len(asked) == 5
    assert len(path.read_text().splitlines()) == 4
    for damaged in ("{", '{"key": 3}', "[1]"):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"answers\.jsonl"):
            remembering_judge(judge, path)
