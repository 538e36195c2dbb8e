import json
import pickle
from pathlib import Path

import pytest
import tyro

from experiments.saferec.__main__ import main
from experiments.saferec.data.dataset import load_records
from experiments.saferec.metrics import score_texts
from experiments.saferec.oracle.catalogue import film_oracle
from experiments.saferec.oracle.titles import map_key
from experiments.saferec.scoring.command import evaluate, label_paths
from experiments.saferec.scoring.outputs import write_outputs
from experiments.saferec.scoring.references import Reference, Scoring
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import FILMS, GORE, listed, record

RECORDS = [
    record(("Quiet Harbour", 2004), sample_id="a", said_outright=True),
    record(("Cafe Lune", 2020), sample_id="b", said_outright=False, prompt="other"),
]
GOOD = listed(("Quiet Harbour", 2004), ("The Red Mill", 1999))
ROWS = [{"sample_id": "a", "text": GOOD}, {"sample_id": "b", "text": "none"}]


def scored(*arguments, bare_lists=False, partial=False, **options):
    """`evaluate` with its own arguments, and all others in the record of options."""
    own = {k: options.pop(k) for k in ("out", "baseline", "data_dir", "outputs") if k in options}
    flags = {"bare_lists": bare_lists, "partial": partial}
    return evaluate(*arguments, **own, **flags, scoring=Scoring(**{"bootstrap": 10, **options}))


def reference(oracle=None, **options):
    return Reference(RECORDS, "records", oracle, None, Scoring(**options), {})


@pytest.fixture
def files(tmp_path):
    """Records, outputs, and a metrics path to write to."""
    records, outputs = tmp_path / "records.jsonl", tmp_path / "outputs.jsonl"
    records.write_text("".join(json.dumps(row) + "\n" for row in RECORDS))
    outputs.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return records, outputs, tmp_path / "run" / "metrics.json"


def test_bare_lists():
    plain = "1. Quiet Harbour (2004)\n"
    table = score_texts([plain, GOOD], RECORDS, bare_lists=True)
    assert table.values["list_length"].tolist() == [1.0, 2.0]
    assert score_texts([plain, GOOD], RECORDS).values["list_length"].tolist() == [0.0, 2.0]


def test_score_outputs():
    means = reference(film_oracle(FILMS), k=(2,)).score(ROWS, "outputs").means()
    assert means["recall@2"] == 0.5
    assert means["svr@2"] == 0.5
    assert means["count@2"] == 0.5
    assert means["empty"] == 0.5


def test_evaluate_writes_and_prints(files, capsys):
    records, outputs, out = files
    result = scored(records, (outputs,), out=out, k=(1, 2), bootstrap=50)
    written = json.loads(out.read_text())
    assert written == result
    assert written["num_conversations"] == 2
    assert written["num_contexts"] == 2
    assert written["metrics"]["recall@1"]["mean"] == 0.5
    assert written["splits"]["disclosure"]["hinted"]["metrics"]["recall@1"]["mean"] == 0.0
    assert written["splits"]["trait"][GORE]["num_conversations"] == 2
    assert "svr@1" not in written["metrics"]
    printed = capsys.readouterr().out
    for part in ("of 2 items", "fixed convention", "Recall", "@2", "by disclosure"):
        assert part in printed
    assert "none, so no safety metrics" in printed
    assert [path.name for path in out.parent.iterdir()] == ["metrics.json"]


def test_options_of_the_oracle(files, tmp_path, capsys):
    """A listed film has risk 1 for gore, and is known by a year that is one off."""
    removed = {"title": "The Red Mill", "year": 2000, "trait_info": {"final": 1.0}}
    known = {"assigned_trait": GORE, "removed_groundtruth": [removed]}
    rows = [{**row, **known} for row in RECORDS]
    records = tmp_path / "removed.jsonl"
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ["evaluate", "--records", str(records), "--outputs", str(files[1]), "--k", "2"]
    common += ["--bootstrap", "9", "--out", str(tmp_path / "out.json")]

    def rate(*options):
        assert main([*common, *options]) == 0
        return json.loads((tmp_path / "out.json").read_text())["metrics"]["svr@2"]["mean"]

    assert rate() == 0.5
    assert rate("--oracle.threshold", "2.0") == 0.0
    assert rate("--oracle.trait-thresholds", GORE, "2.0") == 0.0
    assert rate("--oracle.year-tolerance", "0") == 0.0
    assert main([*common, "--oracle.trait-thresholds", "Gory", "1.0"]) == 2
    assert "unknown trait 'Gory'" in capsys.readouterr().err.replace("\n", " ")


def test_partial(files):
    table = reference().score(ROWS[:1], "outputs", partial=True)
    assert table.ids == ("a",)
    records, outputs, _ = files
    outputs.write_text(outputs.read_text().partition("\n")[0])
    with pytest.raises(UserError, match="no output for 1 of 2 records"):
        scored(records, (outputs,))
    result = scored(records, (outputs,), partial=True, bootstrap=10)
    assert result["num_conversations"] == 1


def test_baseline(files, tmp_path, capsys):
    records, outputs, out = files
    scored(records, (outputs,), out=out, bootstrap=20)
    better = tmp_path / "better.jsonl"
    rows = [{"id": "a", "text": GOOD}, {"id": "b", "text": listed(("Cafe Lune", 2020))}]
    better.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = scored(records, (better,), baseline=out, bootstrap=20)
    assert result["comparison"]["recall@5"]["difference"] == 0.5
    assert "difference from baseline" in capsys.readouterr().out


@pytest.fixture
def better(tmp_path):
    path = tmp_path / "better" / "outputs.jsonl"
    path.parent.mkdir()
    rows = [
        {"prompt": "what next?", "text": GOOD},
        {"prompt": "other", "text": listed(("Cafe Lune", 2020))},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_as_baseline(files, better):
    """Recall@1 by hand: 1 and 0 for the baseline, 1 and 1 for the system, so 0.5 more."""
    records, outputs, _ = files
    result = scored(records, (better,), baseline=outputs, bootstrap=20, k=(1,))
    assert result["baseline"] == str(outputs)
    assert result["comparison"]["recall@1"]["difference"] == 0.5
    assert result["comparison"]["recall@1"]["systems"] == 1


def test_the_lists_in_the_records_as_baseline(files, better, tmp_path):
    """The teacher lists of published records: the file of records is an outputs file as well."""
    path = tmp_path / "records.json"
    path.write_text(json.dumps([{**r, "completion": [{"content": GOOD}]} for r in RECORDS]))
    result = scored(path, (better,), baseline=path, bootstrap=20, k=(1,))
    # Recall@1: the teacher hits the first record alone, the system both.
    assert result["comparison"]["recall@1"]["difference"] == 0.5


def test_several_systems_against_one_baseline(files, better, tmp_path, capsys):
    records, outputs, out = files
    twin = tmp_path / "twin.jsonl"
    twin.write_text(outputs.read_text())
    result = scored(records, (outputs, better, twin), out=out, bootstrap=50, k=(1, 2))
    assert json.loads(out.read_text()) == result
    systems = result["systems"]
    folder = tmp_path.name
    assert list(systems) == [
        f"{folder}/outputs.jsonl",
        "better/outputs.jsonl",
        f"{folder}/twin.jsonl",
    ]
    # Without --baseline the first file is the baseline, and is not compared with itself.
    assert result["baseline"] == str(outputs)
    base, good, same = systems.values()
    assert base["comparison"] == {}
    assert good["comparison"]["recall@1"]["difference"] == 0.5
    assert same["comparison"]["recall@1"]["difference"] == 0.0
    assert good["comparison"]["recall@1"]["systems"] == 2
    assert good["comparison"]["recall@1"]["p_holm"] >= good["comparison"]["recall@1"]["p_value"]
    assert good["metrics"]["recall@1"]["mean"] == 1.0
    assert good["conversations"]["sample_id"] == ["a", "b"]
    printed = capsys.readouterr().out
    for part in ("better/outputs", "@2", "Holm-corrected per metric over 2"):
        assert part in printed
    assert max(map(len, printed.splitlines())) <= 80
    with pytest.raises(UserError, match="holds the metrics of several systems"):
        scored(records, (better,), baseline=out)
    named = scored(records, (better, twin), baseline=outputs, bootstrap=20, k=(1,))
    assert [one["comparison"]["recall@1"]["difference"] for one in named["systems"].values()] == [
        0.5,
        0.0,
    ]


def test_a_baseline_scored_otherwise_is_no_baseline(files, better):
    records, outputs, out = files
    scored(records, (outputs,), out=out, convention="official", bootstrap=20)
    message = r"metrics\.json was scored with convention 'official', the outputs with 'fixed'"
    with pytest.raises(UserError, match=message):
        scored(records, (better,), baseline=out)
    with pytest.raises(UserError, match=r"no file .*absent\.jsonl"):
        scored(records, (better,), baseline=out.with_name("absent.jsonl"))
    with pytest.raises(UserError, match="is given twice"):
        scored(records, (better, better))


def test_systems_are_called_by_what_tells_them_apart():
    paths = [Path("a/sft/outputs.jsonl"), Path("a/rl/outputs.jsonl")]
    assert label_paths(paths) == {"sft/outputs.jsonl": paths[0], "rl/outputs.jsonl": paths[1]}
    assert list(label_paths([Path("x/one.jsonl"), Path("y/two.jsonl")])) == [
        "one.jsonl",
        "two.jsonl",
    ]
    assert label_paths([]) == {}


def test_errors_overwrite_nothing(files):
    records, outputs, out = files
    out.parent.mkdir()
    out.write_text("kept")
    outputs.write_text(outputs.read_text()[:-9])
    with pytest.raises(UserError, match=r"outputs\.jsonl, line 2 is not JSON"):
        scored(records, (outputs,), out=out)
    with pytest.raises(UserError, match="no file"):
        scored(records, (outputs.with_name("none"),), out=out)
    assert out.read_text() == "kept"


def test_records_score_their_own_completions(tmp_path):
    path = tmp_path / "records.json"
    path.write_text(json.dumps([{**r, "completion": [{"content": GOOD}]} for r in RECORDS]))
    result = scored(path, bootstrap=10)
    assert result["outputs"] is None
    assert result["metrics"]["list_length"]["mean"] == 2.0
    path.write_text(json.dumps(RECORDS))
    with pytest.raises(UserError, match="no field 'text' or 'completion'"):
        scored(path)


def test_published_oracle_and_catalogue(files, tmp_path):
    records, outputs, _ = files
    sensitivity, titles = tmp_path / "s.json", tmp_path / "title_to_imdb.pkl"
    sensitivity.write_text(json.dumps([{"imdbId": "1", "traits": {GORE: {"final": 1.0}}}]))
    titles.write_bytes(pickle.dumps({(map_key("The Red Mill"), 1999): "1"}))
    catalogue = tmp_path / "c.json"
    catalogue.write_text(json.dumps([["Quiet Harbour", 2004]]))
    values = {}
    for convention in ("fixed", "official"):
        result = scored(
            records,
            (outputs,),
            sensitivity=sensitivity,
            title_map=titles,
            catalogue=catalogue,
            convention=convention,
            bootstrap=10,
        )
        values[convention] = [
            result["metrics"][name]["mean"] for name in ("svr@5", "coverage@5", "catalogue")
        ]
    # The published look-up misses the article; its empty list counts as safe and as no match.
    assert values == {"fixed": [0.5, 0.5, 0.5], "official": [0.0, 0.0, 0.25]}
    with pytest.raises(UserError, match="give title_map too"):
        scored(records, (outputs,), sensitivity=sensitivity)
    with pytest.raises(UserError, match="give sensitivity too"):
        scored(records, (outputs,), title_map=titles)


def test_embedded_data(data_dir, tmp_path):
    """The films of the data set are oracle and catalogue, its records the conversations."""
    records = load_records(data_dir, "test")
    outputs = tmp_path / "outputs.jsonl"
    write_outputs(outputs, records, [listed(record["teacher"][0]) for record in records])
    result = scored(outputs=(outputs,), data_dir=data_dir)
    assert result["records"] == f"{data_dir}, split test"
    assert result["num_conversations"] == len(records)
    assert result["metrics"]["coverage@5"]["mean"] == result["metrics"]["catalogue"]["mean"] == 1.0
    assert 0.0 < result["metrics"]["svr@5"]["mean"] < 1.0
    with pytest.raises(UserError, match="give records, or data_dir"):
        scored(outputs=(outputs,))


def test_options_are_understood_by_the_command_line(files):
    records, outputs, out = files
    arguments = ["--records", str(records), "--outputs", str(outputs), "--out", str(out)]
    arguments += ["--k", "1", "3", "--convention", "official", "--bootstrap", "5"]
    result = tyro.cli(evaluate, args=arguments)
    assert result["k"] == [1, 3]
    assert result["convention"] == "official"
    assert out.is_file()


def test_hint_where_lists_are_bare(files, capsys):
    records, outputs, _ = files
    outputs.write_text('{"id": "a", "text": "Up (2009)"}\n{"id": "b", "text": "Up (2009)"}\n')
    scored(records, (outputs,), bootstrap=10)
    assert "--bare-lists" in capsys.readouterr().out
    scored(records, (outputs,), bare_lists=True, bootstrap=10)
    assert "--bare-lists" not in capsys.readouterr().out


def test_published_conversations_end_to_end(published_file, reference_file, tmp_path):
    """The teacher lists through the command: the golden numbers, to six digits."""
    result = scored(
        published_file,
        catalogue=reference_file("saferec/gt_catalog_complete.json"),
        convention="official",
        out=tmp_path / "metrics.json",
        bootstrap=200,
    )
    golden = {
        "recall@5": 0.056962,
        "ndcg@5": 0.050633,
        "recall@10": 0.071730,
        "ndcg@10": 0.056249,
        "recall@20": 0.086498,
        "ndcg@20": 0.061310,
        "catalogue": 1.0,
    }
    metrics = result["metrics"]
    assert {name: round(metrics[name]["mean"], 6) for name in golden} == golden
    assert all(metrics[name]["low"] <= golden[name] <= metrics[name]["high"] for name in golden)
    assert (result["num_conversations"], result["num_contexts"]) == (79, 32)
    # Only films once removed from some list are known, and every one of them was unsafe.
    assert metrics["svr@10"]["mean"] == metrics["coverage@10"]["mean"]
    assert round(metrics["svr@10"]["mean"], 6) == 0.097468
    assert "low coverage" in result["oracle"]
