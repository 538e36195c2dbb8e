"""The whole verifier on authors of whom it knows nothing: fit, keep, enrol, gate."""

import json

import numpy as np
import pytest

from experiments.persona_leakage.commands.fingerprint import Evaluate, Fit, Score, fingerprint
from experiments.persona_leakage.fingerprint.encoder import EncoderOptions
from experiments.persona_leakage.fingerprint.enrolment import (
    enrol,
    forget,
    from_record,
    identify,
    score,
    to_record,
    update,
)
from experiments.persona_leakage.fingerprint.evaluation import known_samples, probabilities
from experiments.persona_leakage.fingerprint.gate import Gate, choose_gate, decide
from experiments.persona_leakage.fingerprint.problems import read_answers
from experiments.persona_leakage.fingerprint.saved import load_verifier, save_verifier
from experiments.persona_leakage.fingerprint.verification import verify
from experiments.persona_leakage.fingerprint.verifier import (
    answer,
    choose_band,
    decided,
    fit,
    gate_at,
)
from gdpo_jax.errors import UserError
from tests.experiments.persona_leakage.fingerprint.authors import essay, problems

pytest.importorskip("sklearn", reason="no scikit-learn; install the extra fingerprint")
SMALL = EncoderOptions(steps=10, authors=8)


@pytest.fixture(scope="module")
def fitted():
    return fit(problems(24, seed=1), folds=2, encoder=SMALL)


@pytest.fixture(scope="module")
def verifier(fitted):
    return fitted.verifier


def test_it_tells_new_texts_apart(fitted, verifier):
    later = problems(16, seed=2, first=3)
    same = [problem.same for problem in later]
    assert verify(same, [answer(verifier, problem) for problem in later]).auc > 0.9
    assert fitted.probabilities.shape == (24, len(verifier.scorers.levels))
    assert np.all((fitted.probabilities > 0) & (fitted.probabilities < 1))


def test_the_same_seed_gives_the_same_verifier(fitted):
    again = fit(problems(24, seed=1), folds=2, encoder=SMALL)
    np.testing.assert_array_equal(again.scores, fitted.scores)


def test_a_kept_verifier_answers_alike(verifier, tmp_path):
    save_verifier(verifier, tmp_path / "new" / "verifier.npz")
    other = load_verifier(tmp_path / "new" / "verifier.npz")
    some = problems(4, seed=3)
    texts = [problem.unknown for problem in some]
    here, there = (probabilities(v, known_samples(v, some), texts) for v in (verifier, other))
    np.testing.assert_array_equal(here, there)
    assert (other.band, other.gates) == (verifier.band, verifier.gates)
    (tmp_path / "broken.npz").write_bytes((tmp_path / "new" / "verifier.npz").read_bytes()[:500])
    with pytest.raises(UserError, match=r"broken\.npz is damaged"):
        load_verifier(tmp_path / "broken.npz")
    with pytest.raises(UserError, match="there is no file"):
        load_verifier(tmp_path / "absent.npz")


def test_a_verifier_of_an_earlier_form_is_to_be_fitted_again(verifier, tmp_path):
    save_verifier(verifier, tmp_path / "verifier.npz")
    with np.load(tmp_path / "verifier.npz") as file:
        arrays = {name: file[name] for name in file.files}
    rest = {**json.loads(arrays["rest"].tobytes()), "form": 1}
    arrays["rest"] = np.frombuffer(json.dumps(rest).encode(), np.uint8)
    np.savez(tmp_path / "old.npz", **arrays)
    with pytest.raises(UserError, match=r"old\.npz has form 1, not 2; fit the verifier again"):
        load_verifier(tmp_path / "old.npz")


def test_an_enrolment_is_what_its_texts_add_up_to(verifier):
    rng = np.random.default_rng(4)
    texts = [essay(7, rng) for _ in range(3)]
    whole = enrol(verifier, "u7", texts)
    grown = update(verifier, enrol(verifier, "u7", texts[2:]), ["  ", *texts[:2]])
    assert grown == whole
    assert (whole.texts, whole.characters) == (3, sum(map(len, texts)))
    assert from_record(json.loads(json.dumps(to_record(whole)))) == whole
    assert 0 < score(verifier, whole, texts[0]) < 1
    assert score(verifier, whole, "\n") == 0.0
    with pytest.raises(UserError, match="no text to count"):
        enrol(verifier, "u8", ["", " "])


def test_a_record_of_something_else_is_refused(verifier):
    record = to_record(enrol(verifier, "u1", ["I saw it."]))
    with pytest.raises(UserError, match="'u1': field 'texts' is missing"):
        from_record({name: value for name, value in record.items() if name != "texts"})
    with pytest.raises(UserError, match="'texts' is '1', not a int"):
        from_record({**record, "texts": "1"})
    with pytest.raises(UserError, match="'counts' must be a list"):
        from_record({**record, "counts": [[1, -1]]})
    with pytest.raises(UserError, match="made with another verifier"):
        score(verifier, from_record({**record, "features": "0"}), "text")


def test_identification_is_for_enrolled_people_alone(verifier):
    rng = np.random.default_rng(5)
    people = [enrol(verifier, f"u{a}", [essay(a, rng) for _ in range(3)]) for a in (0, 6, 12)]
    always = Gate(0.0, 0.0)
    assert [identify(verifier, people, essay(a, rng), always) for a in (0, 6, 12)] == [
        "u0",
        "u6",
        "u12",
    ]
    assert identify(verifier, people, essay(6, rng), Gate(1.1, 1.0)) is None
    twin = [people[1], from_record({**to_record(people[1]), "user": "twin"})]
    assert identify(verifier, twin, essay(6, rng), always) is None
    assert identify(verifier, [], "text") is None
    assert [e.user for e in forget(people, "u6")] == ["u0", "u12"]
    with pytest.raises(UserError, match="'u9' has no enrolment"):
        forget(people, "u9")


def test_a_gate_opens_shuts_or_abstains():
    gate = Gate(0.8, 0.4)
    assert [decide(gate, value) for value in (0.8, 0.79, 0.4, 0.39)] == [True, None, None, False]
    with pytest.raises(UserError, match="0 <= abstain <= threshold"):
        Gate(0.4, 0.8)
    chosen = choose_gate(np.array([0.3, 0.6, 0.9]), np.array([0.1, 0.5]), acceptance=0.5)
    assert chosen == Gate(0.3, 0.3)  # halfway from .5 to .1, and no lower than the lowest genuine
    assert gate_of_all_alike() == np.nextafter(1.0, 2.0)


def gate_of_all_alike():
    return choose_gate(np.array([1.0]), np.array([1.0]), acceptance=0.0).threshold


def test_gates_keep_their_promise_on_problems_not_learnt_from(fitted, verifier):
    same = np.array([problem.same for problem in problems(24, seed=1)])
    for found, gate in zip(fitted.probabilities.T, verifier.gates, strict=True):
        assert (found[~same] >= gate.threshold).mean() <= 0.05
    assert gate_at(verifier, 10) == verifier.gates[0]


def test_a_band_pays_where_decisions_are_chance():
    same = np.array([1, 1, 1, 0, 0, 0])
    good, bad = [0.9, 0.8, 0.1, 0.2], [0.51, 0.49]
    found = np.array([good[0], good[1], bad[1], bad[0], good[2], good[3]])
    low, high = choose_band(same, found)
    assert low < 0.49 and high > 0.51
    assert decided(found, (low, high)).tolist() == [0.9, 0.8, 0.5, 0.5, 0.1, 0.2]
    assert choose_band(same, np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.3])) == (0.5, 0.5)


def test_problems_of_one_answer_cannot_calibrate():
    with pytest.raises(UserError, match="one answer only"):
        fit([p for p in problems(8, seed=0) if p.same], folds=2, encoder=SMALL)


def write(folder, found):
    rows = []
    for problem in found:
        (folder / problem.id).mkdir(parents=True)
        for number, text in enumerate(problem.known, start=1):
            (folder / problem.id / f"known{number:02}.txt").write_text(text)
        (folder / problem.id / "unknown.txt").write_text(problem.unknown)
        rows.append({"name": problem.id, "answer": "Y" if problem.same else "N"})
    (folder / "truth.json").write_text(json.dumps({"problems": rows}))


def test_the_command_fits_answers_and_measures(tmp_path, capsys):
    write(tmp_path / "train", problems(16, seed=6, known=1))
    write(tmp_path / "test", problems(6, seed=7, first=2, known=1))
    file, answers = tmp_path / "v.npz", tmp_path / "answers.txt"
    fingerprint(Fit(tmp_path / "train", out=file, folds=2))
    fingerprint(Score(tmp_path / "test", verifier=file, out=answers))
    assert len(read_answers(answers)) == 6
    out = tmp_path / "evaluation.json"
    fingerprint(
        Evaluate(tmp_path / "test", tmp_path / "train", verifier=file, out=out, bootstrap=20)
    )
    found = json.loads(out.read_text())
    assert set(found["lengths"]) == {"whole", *(f"{n} characters" for n in (140, 280, 500))}
    assert found["lengths"]["whole"]["compared"]["verifier"]["count"] == 6
    assert found["seen"] == 0
    assert set(found["impersonation"]["no attack"]) == {"accepted", "mean score"}
    printed = capsys.readouterr().out
    assert (
        "problems that were not learnt from" in printed
        and "impostors who pass for the owner" in printed
    )
