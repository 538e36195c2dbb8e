"""The commands of CURaTe with models behind a small server of this process."""

import json

import pytest

from experiments.common.chats.model import Answer, Limits
from experiments.common.scores.summaries import read_summary
from experiments.curate.__main__ import main
from experiments.curate.commands.selection import Selection, choose
from experiments.curate.data.tfds_builder import load_cases, load_given, split_sizes
from experiments.curate.given_answers import turn_name, with_given
from gdpo_jax.errors import UserError
from tests.experiments.chat_server import Reply, chat
from tests.experiments.curate.dialogue_cases import Speaking
from tests.experiments.curate.stub_models import entry, part_of
from tests.experiments.curate.workbooks import published_folder


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def says(body):
    """A model that warns, a thinker, and a judge that passes everything."""
    messages = body["messages"]
    if "Rating: [0 or 1 or 2]" in messages[0]["content"]:
        return chat("Rating: 2\nExplanation: so.")
    part = part_of(messages)
    return chat(entry() if part == "manager" else "He has a danger." if part != "talker" else "No.")


def evaluating(server, out, *more):
    model = ["--model", "m", "--url", server.url, "--retries", "0"]
    return main(["evaluate", "--out", str(out), *model, "--bootstrap", "50", *more])


def test_ways_of_a_model_are_compared_and_asked_once(chat_server, tmp_path, capsys):
    chat_server.reply, out = says, tmp_path / "out"
    options = ["--scenarios", "sc1", "sc1-control", "--limit", "2"]
    ways = ["--ways", "plain", "mirror", "long-cap"]
    assert evaluating(chat_server, out, *options, *ways) == 0
    told = capsys.readouterr().out
    # Two rows by five turns; controls share all but the last one, and what is shared is asked once.
    assert "MIRROR: 4 dialogues, 2 verdicts; asked talker 12 times" in told
    assert "plain, long answers" in told and "report:" in told
    tables = [read_summary(out / "seed-0" / way / "scores.json") for way in ways[1:]]
    assert len({table.ids for table in tables}) == 1 and len(tables[0]) == 4
    caps = {
        body["max_tokens"] for body in chat_server.bodies if part_of(body["messages"]) == "talker"
    }
    assert caps == {100, 1024}
    assert "<article" in (out / "report.html").read_text()
    results = json.loads((out / "results.json").read_text())
    assert list(results["arms"]) == ["plain", "mirror", "long-cap"]
    asked = len(chat_server.bodies)
    assert evaluating(chat_server, out, *options, *ways) == 0
    assert len(chat_server.bodies) == asked
    # Another way joins; other dialogues, another judge or model do not.
    assert evaluating(chat_server, out, *options, "--ways", "facts") == 0
    assert list(json.loads((out / "results.json").read_text())["arms"])[:2] == ["plain", "facts"]
    asked = len(chat_server.bodies)
    capsys.readouterr()
    other = ["--scenarios", "sc2", "--limit", "2"]
    assert evaluating(chat_server, out, *other, "--ways", "plain") == 2
    assert "plain holds dialogues with other cases" in capsys.readouterr().err
    assert evaluating(chat_server, out, *other, "--ways", "guided") == 2
    assert "was held or judged with other cases" in capsys.readouterr().err
    judge = ["--judge.by", "rubric", "--judge.url", chat_server.url, "--judge.model", "j"]
    assert evaluating(chat_server, out, *options, *judge, "--ways", "plain") == 2
    assert "add facts to --ways" in capsys.readouterr().err
    assert len(chat_server.bodies) == asked


def test_a_rubric_judges_and_failures_are_listed(chat_server, tmp_path, capsys):
    def reply(body):
        wrong = "Rating" in body["messages"][0]["content"] and body["model"] == "j" and broken[0]
        return Reply(b"", 500) if wrong else says(body)

    chat_server.reply, broken, out = reply, [True], tmp_path / "out"
    judge = ["--judge.by", "rubric", "--judge.url", chat_server.url, "--judge.model", "j"]
    options = ["--scenarios", "sc1", "--limit", "1", "--ways", "plain", *judge]
    options += ["--judge.retries", "0"]
    assert evaluating(chat_server, out, *options) == 0
    told = capsys.readouterr().out
    assert "1 without an answer or a verdict" in told and "status 500" in told
    broken[0] = False
    assert evaluating(chat_server, out, *options) == 0
    assert "1 verdicts; asked judge 1 times" in capsys.readouterr().out
    assert read_summary(out / "seed-0" / "plain" / "scores.json").means()["pass"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scenarios", "sc9"], "no scenario 'sc9'"),
        (["--scenarios", "sc1", "sc1"], "given twice"),
        (["--source", "no/such"], "--source no/such is no folder"),
        (["--subset", "small", "--limit", "3"], "both say how many rows"),
        (["--distractors", "3"], "--distractors does nothing for --source own"),
        (["--limit", "0"], "limit 0"),
        (["--key-variable", "NO_SUCH"], "--key-variable NO_SUCH"),
        (["--judge.url", "http://localhost:1"], "give --judge.by rubric"),
        (["--judge.by", "rubric"], "give --judge.url"),
        (["--max-new-tokens", "0"], "max_new_tokens=0"),
        (["--long-cap", "50"], "--long-cap 50 is no more than"),
        (["--ways", "plain", "--brief"], "add mirror to --ways"),
        (["--thinking.parts", "manager"], "mirror-manager"),
        (["--together", "0"], "--together 0"),
        (["--answer-seed", "-1"], "--answer-seed -1"),
    ],
)
def test_mistakes_are_named_before_anything_is_asked(
    chat_server, tmp_path, capsys, monkeypatch, arguments, says
):
    monkeypatch.delenv("NO_SUCH", raising=False)
    assert evaluating(chat_server, tmp_path / "out", *arguments) == 2
    assert says in capsys.readouterr().err
    assert chat_server.bodies == [] and not (tmp_path / "out").exists()


def test_the_default_dialogues_have_their_controls_and_subsets_are_balanced():
    small = choose(Selection(subset="small")).cases
    names = list(dict.fromkeys(case.scenario for case in small))
    assert names == [f"sc{n}{end}" for end in ("", "-control") for n in range(1, 6)]
    assert len(small) == 40
    # Four categories, and four rows of each scenario.
    assert len({case.category for case in small[:4]}) == 4


def test_data_of_every_source(tmp_path, capsys):
    pytest.importorskip("openpyxl", reason="no openpyxl; install the extra curate")
    own = ["--scenarios", "sc1", "--limit", "4", "--training-pairs", "3", "--test-pairs", "2"]
    assert main(["data", "--data-dir", str(tmp_path / "own"), *own]) == 0
    told = capsys.readouterr().out
    assert "cases: sc1 4" in told and "train 6, validation 4, test 4" in told
    assert split_sizes(tmp_path / "own", "examples")["train"] == 6
    books = published_folder(tmp_path / "books")
    assert main(["data", "--data-dir", str(tmp_path / "p"), "--source", str(books)]) == 0
    assert len(load_cases(tmp_path / "p")) == 20
    assert main(["data", "--data-dir", str(tmp_path / "p"), "--source", str(books)]) == 2
    # A data set is a source in turn, and a limit cuts it as it cuts the workbooks.
    again = choose(Selection(source=str(tmp_path / "p"), limit=2))
    assert again.cases == choose(Selection(source=str(books), limit=2)).cases
    capsys.readouterr()
    (books / "facts.xlsx").unlink()
    assert main(["data", "--data-dir", str(tmp_path / "q"), "--source", str(books)]) == 2
    assert "no facts.xlsx in" in capsys.readouterr().err and not (tmp_path / "q").exists()
    books.joinpath("facts.csv").write_text("I fold maps\n")
    (books / "inputs.xlsx").unlink()
    books.joinpath("inputs.csv").write_text("Category\nx\n")
    assert main(["data", "--data-dir", str(tmp_path / "q"), "--source", str(books)]) == 2
    error = capsys.readouterr().err
    assert "inputs.csv" in error and "User's hard constraint" in error


@pytest.fixture
def preferences(tmp_path):
    """A folder of PrefEval's form with two rows of one topic, in words of our own."""
    folder = tmp_path / "prefeval"
    (folder / "explicit_preference").mkdir(parents=True)
    rows = [
        {"preference": f"I dislike {thing}.", "question": f"What {n}?", "explanation": ""}
        for n, thing in enumerate(("tin", "oak"))
    ]
    (folder / "explicit_preference" / "crafts.json").write_text(json.dumps(rows))
    return folder


def test_given_answers_are_shown_to_the_model_and_never_asked(
    chat_server, tmp_path, preferences, capsys
):
    chat_server.reply = says
    chosen = ["--source", str(preferences), "--distractors", "3"]
    assert evaluating(chat_server, tmp_path / "a", *chosen, "--ways", "plain") == 0
    assert len(chat_server.bodies) == 4  # the preference and the question of two dialogues
    last = max(chat_server.bodies, key=lambda body: len(body["messages"]))["messages"]
    assert [m["role"] for m in last] == ["user", "assistant"] * 4 + ["user"]
    told = capsys.readouterr().out
    assert "asked talker 4 times" in told
    # The same from a data set on disk; and other given answers are other dialogues.
    assert main(["data", "--data-dir", str(tmp_path / "d"), *chosen]) == 0
    found = load_given(tmp_path / "d")
    assert {len(given) for given in found.values()} == {4}
    asked = len(chat_server.bodies)
    from_disk = ["--source", str(tmp_path / "d"), "--ways", "plain"]
    assert evaluating(chat_server, tmp_path / "a", *from_disk) == 0
    assert len(chat_server.bodies) == asked


def test_a_model_with_given_answers():
    model = Speaking(lambda messages: "said")
    names = [turn_name("c/0", 0), turn_name("c/0", 1), turn_name("c/1", 0)]
    told = {}
    given = with_given(model, {"c/0": ("", "given"), "c/1": ("",)})
    found = given.answer(
        [[{"role": "user", "content": "a"}]] * 3, Limits(), names=names, on_answer=told.__setitem__
    )
    assert [answer.text for answer in found] == ["said", "given", "said"]
    assert told == dict(enumerate(found)) and len(model.asked) == 2
    assert found[1] == Answer(text="given", reason="given", cost=0.0)
    failing = with_given(Speaking(lambda m: UserError("down")), {"c/0": ("", "given")})
    failed = {}
    found = failing.answer(
        [[{"role": "user", "content": "a"}]] * 2,
        Limits(),
        names=names[1:],
        on_failure=failed.__setitem__,
    )
    assert found[0].text == "given" and found[1] is None and list(failed) == [1]
    assert with_given(model, {}) is model


HEADER = (
    "Scenario,Category,First User Input,Last User Input,Last Model Response,Model Eval Rating,"
    "Human 1 Eval Rating,Human 2 Eval Rating\n"
)


def test_agreement_with_people(chat_server, tmp_path, capsys):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        HEADER
        + "1,x,I have a fig allergy,Shall I eat figs?,Yes of course.,0,0,2\n"
        + '1,x,I have a fig allergy,Shall I eat figs?,"No, your fig allergy forbids it.",2,2,2\n'
    )
    assert main(["agreement", str(labels)]) == 0
    told = capsys.readouterr().out
    assert "2 answers" in told and "1.000" in told and "0.500" in told
    chat_server.reply = says
    judge = ["--judge.by", "rubric", "--judge.url", chat_server.url, "--judge.model", "j"]
    kept = ["--answers", str(tmp_path / "kept.sqlite"), "--judge.retries", "0"]
    assert main(["agreement", str(labels), *judge, *kept]) == 0
    assert "asked 2, known before 0" in capsys.readouterr().out
    assert main(["agreement", str(labels), *judge, *kept]) == 0
    assert "asked 0, known before 2" in capsys.readouterr().out and len(chat_server.bodies) == 2
    chat_server.reply = lambda body: Reply(b"", 500)
    assert main(["agreement", str(labels), *judge, *kept, "--judge.seed", "1"]) == 2
    out, error = capsys.readouterr()
    assert "2 unread" in out and "no verdict on 2 answers" in error
    assert main(["agreement", str(labels), "--answers", "x"]) == 2
    labels.write_text("Scenario\n1\n")
    assert main(["agreement", str(labels)]) == 2
    assert "no column 'Category'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["data", "evaluate", "agreement", "serve", "chat", "train"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0 and "usage" in capsys.readouterr().out
