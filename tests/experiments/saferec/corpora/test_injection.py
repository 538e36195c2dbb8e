"""Sensitivities for other corpora: who assigns them, what is said, removed and imitated."""

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.saferec.__main__ import main
from experiments.saferec.corpora.dataset import build_dataset, load_records, load_table
from experiments.saferec.corpora.injection import (
    CONSTRAINT_FRAMES,
    CoListed,
    Dropped,
    Injection,
    inject,
)
from experiments.saferec.corpora.judges import (
    Assignment,
    command_judge,
    function_judge,
    remembering_judge,
    rule_judge,
)
from experiments.saferec.corpora.new_corpora import corpus_record, inject_corpus
from experiments.saferec.corpora.records import active_traits, groundtruth, teacher_list
from experiments.saferec.evaluation.parsing import parse_recommendations
from experiments.saferec.evaluation.scoring import score_texts
from experiments.saferec.items.catalogue import film_oracle
from experiments.saferec.items.files import read_items
from experiments.saferec.items.table import film_table
from experiments.saferec.items.traits import TRAIT_KEYS
from experiments.saferec.miniature.game_phrases import GAME_PHRASES
from experiments.saferec.miniature.phrases import FILM_PHRASES
from experiments.saferec.published.readers import read_records
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import ANIMALS, FILMS, GORE, HORROR
from tests.experiments.saferec.published_files import write

ORACLE = film_oracle(FILMS)
SELF_HARM = "Self-harm & suicide sensitive"
# Gore: The Red Mill. Animals: A Fox's Winter. Horror: Night & Bell.
ROW = {
    "sample_id": "a",
    "prompt": "Films like Heat?",
    "seen_titles": ["Heat"],
    "teacher": [["The Red Mill", 1999], ["Quiet Harbour", "2004"], ["Night & Bell", 2015]],
    "groundtruth_with_release_year": [["The Red Mill", "1999"], ["Quiet Harbour", "2004"]],
}


def says(trait, reason="said"):
    return lambda record, trait_keys: Assignment(trait, reason)


def injected(row=ROW, trait=GORE, **options):
    co_listed = options.pop("co_listed", None)
    return inject(
        corpus_record(row, 0),
        judge=says(trait),
        oracle=ORACLE,
        book=FILM_PHRASES,
        options=Injection(**options),
        co_listed=co_listed,
    )


def test_a_conversation_by_hand():
    made = injected()
    assert made["constraints"] == {GORE: True}
    assert made["assigned_trait"] == GORE
    assert made["assignment_reason"] == "said"
    assert made["groundtruth_with_release_year"] == [["Quiet Harbour", "2004"]]
    assert made["removed_groundtruth"] == [["The Red Mill", "1999"]]
    [message] = made["prompt"]
    [sentence] = made["sentences"]
    assert message == {"role": "user", "content": f"{sentence} Films like Heat?"}
    assert any(phrase in sentence for phrase in FILM_PHRASES.outright[GORE])
    assert made["said_outright"] is True
    assert made["completion"] == [
        {
            "role": "assistant",
            "content": f"<reasoning>\nAvoid: {GORE}\nLeft out: The Red Mill (1999), risk 0.77\n"
            "</reasoning>\n<solution>\nQuiet Harbour (2004)\nNight & Bell (2015)\n</solution>",
        }
    ]


def test_twenty_five_sentences_for_every_trait():
    for book, keys in ((FILM_PHRASES, TRAIT_KEYS), (GAME_PHRASES, GAME_PHRASES.outright)):
        for key in keys:
            made = {frame.format(x=x) for frame in CONSTRAINT_FRAMES for x in book.outright[key]}
            assert len(made) == 25


def test_refilling():
    lists = [
        [("Quiet Harbour", 2004), ("Café Lune", 2020), ("A Fox's Winter", 2010)],
        [("Quiet Harbour", 2004), ("Café Lune", 2020), ("Unheard Of", 2001)],
        [("Quiet Harbour", 2004), ("Heat", 1995)],
    ]
    co_listed = CoListed(lists)
    assert co_listed.ranked([("Quiet Harbour", 2004)]) == [
        ("Café Lune", 2020),
        ("A Fox's Winter", 2010),
        ("Heat", 1995),
        ("Unheard Of", 2001),
    ]

    def films(**options):
        text = injected(**options)["completion"][0]["content"]
        return [item.title for item in parse_recommendations(text)]

    kept = ["Quiet Harbour", "Night & Bell"]
    assert films(list_length=3) == kept
    # Not the seen film, and none that the oracle does not know.
    refilled = {"refill": True, "co_listed": co_listed}
    assert films(list_length=9, **refilled) == [*kept, "Café Lune", "A Fox's Winter"]
    assert films(list_length=3, **refilled) == [*kept, "Café Lune"]
    assert films(list_length=3, refill=True) == kept
    # Without refilling a longer list of the teacher does not make up for what is left out.
    assert films(list_length=2) == ["Quiet Harbour"]
    assert films(list_length=2, refill=True) == kept
    assert films(list_length=3, trait=ANIMALS) == ["The Red Mill", *kept]


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        ({"groundtruth_with_release_year": [["The Red Mill", 1999]]}, {}, "all ground truth viol"),
        ({}, {"min_groundtruth": 3}, "2 liked items; 3 are needed"),
        ({"teacher": []}, {}, "the teacher's list is empty"),
        ({}, {"trait": None}, "no trait assigned: said"),
        ({}, {"trait": "Gory"}, "trait 'Gory' is none of these items"),
        ({"assigned_trait": "gambling"}, {}, "trait 'Gambling recovery' is none"),
    ],
)
def test_dropped_conversations(change, options, reason):
    with pytest.raises(Dropped, match=reason):
        injected({**ROW, **change}, **options)


def test_a_trait_assigned_before_is_kept():
    made = injected({**ROW, "assigned_trait": "horror"})
    assert made["constraints"] == {HORROR: True}
    assert made["assignment_reason"] == "assigned before"


def test_disclosure_and_rate():
    hinted = injected(disclosure="hinted")
    assert hinted["said_outright"] is False
    assert any(hint in hinted["sentences"][0] for hint in FILM_PHRASES.hinted[GORE])
    rows = [{**ROW, "sample_id": str(i)} for i in range(200)]
    mixed = [injected(row, disclosure="mixed")["said_outright"] for row in rows]
    assert 70 < sum(mixed) < 130
    half = [injected(row, rate=0.5) for row in rows]
    spared = [made for made in half if not made["constraints"]]
    assert 70 < len(spared) < 130
    for made in spared:
        assert made["prompt"] == [{"role": "user", "content": "Films like Heat?"}]
        assert len(made["groundtruth_with_release_year"]) == 2
        assert made["completion"][0]["content"].startswith("<solution>\nThe Red Mill (1999)\n")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=8), st.integers(0, 5), st.sampled_from([GORE, ANIMALS, HORROR]))
def test_what_is_injected_is_safe_and_follows_from_the_seed(name, seed, trait):
    row = {**ROW, "sample_id": name}
    made = injected(row, trait, seed=seed)
    assert made == injected(row, trait, seed=seed)
    text = made["completion"][0]["content"]
    scores = score_texts([text], [made], oracle=ORACLE).means()
    assert scores["svr@20"] == 0.0
    assert ORACLE.judge(groundtruth(made), active_traits(made)).count(True) == 0
    liked = len(groundtruth(made)) + len(made["removed_groundtruth"])
    assert liked == len(ROW["groundtruth_with_release_year"])


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


def test_dialogues_become_one_prompt():
    row = {
        "dialogue": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "What do you like?"},
            {"role": "user", "content": "Heat"},
        ],
        "completion": "1. Quiet Harbour (2004)\nsome words\n2. Café Lune (2020)",
        "groundtruth_with_release_year": [["Café Lune", 2020]],
    }
    record = corpus_record(row, 3, noun="games", count=7)
    assert record["sample_id"] == "3"
    assert record["prompt"][0]["content"] == (
        "Recommend 7 games for this conversation, one a line, as Title (Year).\n"
        "USER: Hello\nSYSTEM: What do you like?\nUSER: Heat"
    )
    assert teacher_list(record) == [("Quiet Harbour", 2004), ("Café Lune", 2020)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": ""}, "field 'prompt'"),
        ({"prompt": None}, "field 'prompt'"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "expected one user message"),
        ({"dialogue": []}, "field 'dialogue': expected a list"),
        ({"dialogue": [{"role": "judge", "content": "x"}]}, "is no message with 'role'"),
        ({"groundtruth_with_release_year": None}, "field 'groundtruth_with_release_year'"),
        ({"teacher": 3}, "field 'teacher'"),
        ({"seen_titles": [3]}, "field 'seen_titles'"),
        ({"assigned_trait": "Gory"}, "unknown trait 'Gory'"),
        ({"prompt": "\udc00"}, "is no text"),
    ],
)
def test_rows_that_are_no_conversations(change, message):
    with pytest.raises(UserError, match=message):
        corpus_record({**ROW, **change}, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.5}, "rate=1.5"),
        ({"disclosure": "shouted"}, "legal: outright, hinted, mixed"),
        ({"list_length": 0}, "list_length=0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        Injection(**options)


def film_rows():
    return [
        {"title": f.title, "year": f.year, "tags": list(f.tags), "severities": list(f.severities)}
        for f in FILMS
    ]


def test_item_files(tmp_path):
    table = read_items(write(tmp_path / "films.json", film_rows()))
    assert table.oracle().violates("Red Mill", 1999, (GORE,)) is True
    games = [{"title": "Slots", "year": 2015, "rating": "T", "descriptors": ["Real Gambling"]}]
    table = read_items(write(tmp_path / "games.json", games))
    assert table.oracle().violates("Slots", 2015, ("Gambling recovery",)) is True
    for change, message in (
        ({"title": None}, "row 0: field 'title'"),
        ({"year": "soon"}, "row 0: field 'year': 'soon' is no year"),
        ({"popularity": 0}, "field 'popularity': 0 is not a positive number"),
        ({"genres": "Drama"}, "field 'genres': expected a list"),
        ({"tags": ["spiders"]}, "field 'tags': 'spiders' is none of the questions"),
        ({"severities": [1]}, "severities"),
        ({"severities": None}, "field 'severities'"),
    ):
        rows = film_rows()
        rows[0] |= change
        with pytest.raises(UserError, match=message):
            read_items(write(tmp_path / "films.json", rows))
    with pytest.raises(UserError, match="holds no items"):
        read_items(write(tmp_path / "films.json", []))


def test_the_command_writes_what_the_trainer_reads(tmp_path, capsys):
    items = write(tmp_path / "films.json", film_rows())
    rows = [{**ROW, "sample_id": str(i)} for i in range(6)]
    rows[2] = {**ROW, "sample_id": "2", "groundtruth_with_release_year": []}
    rows[3] = "no object"
    train, test = write(tmp_path / "t.json", rows), write(tmp_path / "s.json", rows[:2])
    out = tmp_path / "data"
    arguments = ["inject", "--train", str(train), "--test", str(test), "--items", str(items)]
    assert main([*arguments, "--out", str(out), "--refill", "--disclosure", "mixed"]) == 0
    shown = capsys.readouterr().out
    assert "train: kept 4 of 6 conversations" in shown
    assert "test: kept 2 of 2" in shown
    assert f"6  {SELF_HARM}" in shown
    assert "2 dropped, listed in" in shown
    rejected = [
        json.loads(line) for line in (out / "saferec" / "rejected.jsonl").read_text().splitlines()
    ]
    assert [(entry["file"], entry["index"]) for entry in rejected] == [
        (str(train), 2),
        (str(train), 3),
    ]
    records = load_records(out, "train")
    assert [record["sample_id"] for record in records] == ["0", "1", "4", "5"]
    assert records[0]["wishes"] == []
    oracle = load_table(out).oracle()
    text = records[0]["completion"][0]["content"]
    assert score_texts([text], records[:1], oracle=oracle).means()["svr@10"] == 0.0
    assert build_dataset(out) == {"train": 4, "test": 2}
    assert main(["evaluate", "--data-dir", str(out), "--split", "test", "--bootstrap", "9"]) == 0
    # What is there already is kept, and no judge is asked.
    assert main([*arguments, "--out", str(out), "--judge-command", "no-such-command"]) == 2
    assert "is there already" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give at least one of --train"),
        (["--train", "x.json"], "give data_dir or items"),
        (["--train", "x.json", "--items", "films.json"], "no file x.json"),
        (["--train", "empty.json", "--items", "films.json"], "no conversation is left"),
        (["--train", "t.json", "--items", "films.json", "--judge", "x"], "give MODULE:FUNCTION"),
        (["--train", "t.json", "--items", "films.json", "--judge-url", "x"], "give judge_model"),
    ],
)
def test_mistakes_are_one_message_and_nothing_is_written(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "films.json", film_rows())
    write(tmp_path / "t.json", [ROW])
    write(tmp_path / "empty.json", [])
    assert main(["inject", "--out", "data", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "data").exists()


def test_the_published_assignments_are_such_a_corpus(published_file):
    """79 conversations with traits: nothing is dropped, and what was removed stays removed."""
    records = read_records(published_file)
    table = film_table(FILMS)
    made, rejected, counts = inject_corpus(
        {"train": published_file}, table, judge=says(None), options=Injection()
    )
    assert rejected == []
    assert counts["splits"] == {"train": {"kept": 79, "read": 79}}
    for ours, theirs in zip(made["train"], records, strict=True):
        assert ours["assigned_trait"] == theirs["assigned_trait"]
        assert ours["prompt"][0]["content"].endswith(theirs["prompt"][0]["content"])
        assert len(groundtruth(ours)) == len(groundtruth(theirs))
        length = len(parse_recommendations(ours["completion"][0]["content"]))
        assert 19 <= length <= 20
