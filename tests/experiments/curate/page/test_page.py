"""The page about an evaluation and about a run of trained arms, as a reader's browser gets it."""

import json
import re
from html.parser import HTMLParser

import pytest

from experiments.common.files.json_rows import write_rows
from experiments.common.report.report import report
from experiments.common.report.runs import load_runs
from experiments.common.scores.results import collect
from experiments.common.scores.summaries import summarize, write_json
from experiments.curate.data.generated import generate_examples
from experiments.curate.data.sources import open_cases
from experiments.curate.data.tfds_builder import write_dataset
from experiments.curate.dialogues import Dialogue
from experiments.curate.evaluation import evaluate
from experiments.curate.judging.judges import rules_judging
from experiments.curate.judging.rules import rules_judge
from experiments.curate.metrics import METRICS, table
from experiments.curate.mirror.way import Mirror
from experiments.curate.page import SECTIONS
from experiments.curate.page.answers import held_dialogues
from experiments.curate.page.marks import silent_after, stated_in, turn_marks
from experiments.curate.ways import Plain
from gdpo_jax.errors import UserError
from tests.experiments.curate.dialogue_cases import Speaking, case
from tests.experiments.curate.stub_models import Stub, said_by

EVIL = '<img src=x onerror=alert(1)> {{nav}} & "quoted" </script>'
ARMS = {"plain": "plain", "mirror": "MIRROR"}


def page_of(folder, out, arms=ARMS):
    results = collect(folder, arms=tuple(arms.items()), metrics=METRICS, bootstrap=50)
    runs = load_runs([folder], [results], arms=list(arms), claims=())
    return report("CURaTe", runs, SECTIONS, out).read_text()


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """Two ways on two scenarios, an ablation and a control; one of them is hostile to the page."""
    folder = tmp_path_factory.mktemp("evaluation")
    names = ("sc1", "sc3", "sc3-hh", "sc1-control")
    cases = open_cases(scenarios=names, limit=3)
    warned = said_by(
        talker=lambda messages: f"No, because of what you told me, avoid it. {EVIL}",
        controller=lambda messages: "The sky is blue.",
    )
    for name, way, model in (
        ("plain", Plain(), Speaking(lambda messages: "Yes, do.")),
        ("mirror", Mirror(), Stub(warned)),
    ):
        evaluate(
            folder / "seed-0" / name,
            cases,
            model=model,
            way=way,
            judging=rules_judging(),
            bootstrap=20,
        )
    return folder


@pytest.fixture(scope="module")
def page(evaluation):
    return page_of(evaluation, evaluation / "report.html")


class Reader(HTMLParser):
    """Tags closed in order, ids, and the text of every section by its heading."""

    void = frozenset(("meta", "link", "br", "img"))

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.sections, self.heading = [], [], {}, ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.heading = data
        self.sections[self.heading] = self.sections.get(self.heading, "") + data


def test_sections_of_an_evaluation(page):
    reader = Reader(page)
    assert reader.open == [] and len(set(reader.ids)) == len(reader.ids)
    shown = reader.sections
    assert {"Scenarios", "Ablations", "Controls", "Categories", "Costs", "Dialogues"} <= set(shown)
    # Controls and ablations stand in sections of their own. "Yes, do." is a failure each time.
    assert "sc1" in shown["Scenarios"] and "sc1-control" not in shown["Scenarios"]
    assert "sc3-hh" in shown["Ablations"] and "sc3-hh" not in shown["Scenarios"]
    assert "sc1-control" in shown["Controls"]
    assert "0.000" in shown["Scenarios"] and "unclear" in shown["Scenarios"]
    assert re.search(r"MIRROR, controller\s*\n?\s*", shown["Costs"])
    assert "All dialogues of the first seed" in shown["Dialogues"]
    assert "says the constraint" in shown["Dialogues"] and "others' wish" in shown["Dialogues"]
    assert "Narrative after turn 1" in shown["Dialogues"]
    assert "without the constraint" in shown["Dialogues"]
    assert "does not mention the constraint" in shown["Dialogues"]


def test_the_page_asks_the_network_for_nothing_and_texts_stay_texts(page):
    assert re.findall(r'(?:src|href|action)="(?!#|data:,)[^"]*"', page) == []
    assert re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|<iframe|<object", page) == []
    assert EVIL not in page and "onerror=alert(1)&gt; {{nav}} &amp;" in page
    assert page.count("<script") == page.count("</script>") == 1


def test_sections_without_anything_to_show_are_left_out(tmp_path):
    evaluate(
        tmp_path / "seed-0" / "plain",
        [case(0), case(1)],
        model=Speaking(),
        way=Plain(),
        judging=rules_judging(),
        bootstrap=20,
    )
    page = page_of(tmp_path, tmp_path / "report.html")
    assert 'id="scenarios"' in page and 'id="dialogues"' in page
    assert 'id="ablations"' not in page and 'id="controls"' not in page
    # A damaged file takes the sections that want it, says so, and leaves the rest.
    path = tmp_path / "seed-0" / "plain" / "dialogues.jsonl"
    path.write_text("{\n" + path.read_text())
    page = page_of(tmp_path, tmp_path / "report.html")
    assert page.count("dialogues.jsonl, line 1 is damaged") == 2 and 'id="results"' in page


def trained_run(folder):
    """A run folder as `reproduce` leaves it: outputs and scores, and data beside them."""
    examples = generate_examples("test", 3)
    write_dataset(folder / "data", open_cases(limit=1), {"test": examples}, about={"source": "own"})
    for arm, text in (("base", EVIL), ("gdpo", "No, avoid it because of what you told me.")):
        found = [Dialogue(case=e.case, answers=(text,)) for e in examples]
        judged = [d for d in found if not d.case.control]
        verdicts = rules_judge([d.judged for d in judged])
        scored = table(found, {d.case.id: v for d, v in zip(judged, verdicts)})
        place = folder / "seed-0" / arm
        write_json(place / "scores.json", summarize(scored, METRICS, samples=20))
        rows = [{"sample_id": name, "text": text} for name in scored.ids]
        write_rows(place / "outputs.jsonl", rows)
    return folder


def test_answers_of_trained_arms_stand_beside_each_other(tmp_path):
    run, arms = trained_run(tmp_path / "run"), {"base": "base", "gdpo": "GDPO"}
    page = page_of(run, tmp_path / "report.html", arms)
    shown = Reader(page).sections
    assert page.count("<article") == 6 and page.count('role="tabpanel"') == 12
    assert "No, avoid it because" in shown["Dialogues"] and "no warning" in shown["Dialogues"]
    assert EVIL not in page and 'id="costs"' not in page
    # Without the data nothing is known of the dialogues, which is said.
    (run / "run.json").write_text(json.dumps({"data_dir": "gone"}))
    page = page_of(run, tmp_path / "report.html", arms)
    assert "The run: the data set was not found" in page and "<article" not in page


def test_marks_of_turns():
    [own] = open_cases(scenarios=("sc3",), limit=1)
    assert stated_in(own) == 0
    assert turn_marks(own) == ["says the constraint", "", "", "", "others' wish", "the question"]
    [middle] = open_cases(scenarios=("sc3-middle",), limit=1)
    assert turn_marks(middle)[0] == "" and turn_marks(middle)[3] == "says the constraint"


def test_where_a_narrative_loses_the_constraint():
    told = case(0, turns=("Hello.", "I have a fig allergy.", "How far?", "Shall I?"))
    note, empty = "He has a fig allergy.", "He asks how far it is."
    assert silent_after(told, ["", note, note, note]) == ()
    assert silent_after(told, ["", note, empty, note]) == (2,)
    assert silent_after(told, [empty, note, "", empty]) == (2, 3)  # turn 0 is before it was said
    assert silent_after(told, ["", "", "", ""]) == ()  # no narrative at all


def test_damaged_settings_are_named(tmp_path, evaluation):
    results = collect(evaluation, arms=tuple(ARMS.items()), metrics=METRICS, bootstrap=20)
    [run] = load_runs([evaluation], [results], arms=list(ARMS), claims=())
    path = evaluation / "seed-0" / "plain" / "settings.json"
    stored = path.read_text()
    try:
        path.write_text("[]")
        with pytest.raises(UserError, match=r"settings\.json names no judge"):
            held_dialogues(run)
    finally:
        path.write_text(stored)
