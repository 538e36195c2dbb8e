"""The published files themselves, where they are present: counts and traps. No text stands here."""

from collections import Counter

import pytest

from experiments.dcr.data.published import read_set
from experiments.dcr.data.splits import pool, refinement_prompts

HH = "hh_rlhf/harmless-base/test.jsonl.gz"
# Prompts, clusters (different texts or focus words), and answers.
COUNTS = {
    "xstest": ("xstest/xstest_prompts.csv", 450, 222, 0),
    "coconot": ("coconot/coconot_contrast_eval.jsonl", 379, 379, 0),
    "coconot-eval": ("coconot/coconot_eval.jsonl", 1001, 1001, 0),
    "coconot-pref": ("coconot/coconot_pref.jsonl", 927, 919, 927),
    "safety-tuned": ("safety_tuned/safety_only_data_Instructions.json", 2483, 2479, 2483),
    "advbench": ("harmful/advbench.csv", 520, 520, 0),
    "jailbreakbench": ("harmful/jailbreakbench.csv", 100, 100, 0),
    "strongreject": ("harmful/strongreject.csv", 313, 313, 0),
    "malicious-instruct": ("harmful/malicious_instruct.txt", 100, 100, 0),
    "i-alpaca": ("harmful/I-Alpaca.json", 50, 50, 0),
    "i-cona": ("harmful/I-CoNa.json", 178, 178, 0),
    "i-controversial": ("harmful/I-Controversial.json", 40, 40, 0),
    "i-malicious": ("harmful/I-MaliciousInstructions.json", 100, 98, 0),
    "i-physical-safe": ("harmful/I-PhysicalSafetySafe.json", 100, 100, 0),
    "i-physical-unsafe": ("harmful/I-PhysicalSafetyUnsafe.json", 100, 100, 0),
    "alpaca-prompts": ("alpaca_prompts/alpaca_prompts_5000.jsonl", 5000, 5000, 0),
    "hh-rlhf": (HH, 2312, 2175, 658),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(reference_file, name):
    file, rows, clusters, answers = COUNTS[name]
    prompts = read_set(name, reference_file(file))
    assert len(prompts) == len({p.id for p in prompts}) == rows
    assert len({p.cluster for p in prompts}) == clusters
    assert sum(bool(p.answer) for p in prompts) == answers
    assert not any(p.text.endswith("..") for p in prompts if name.startswith("i-physical"))


def test_kinds_and_types(reference_file):
    types = {
        name: Counter((p.kind, p.type) for p in read_set(name, reference_file(COUNTS[name][0])))
        for name in ("xstest", "coconot", "coconot-eval", "strongreject", "hh-rlhf")
    }
    assert len(types["xstest"]) == 18 and set(types["xstest"].values()) == {25}
    assert sum(n for (kind, _), n in types["xstest"].items() if kind == "seeming") == 250
    assert sorted(types["coconot"].values()) == [82, 148, 149]
    assert sorted(types["coconot-eval"].values()) == [82, 142, 157, 225, 395]
    assert sorted(types["strongreject"].values()) == [50, 50, 50, 50, 54, 59]
    assert types["hh-rlhf"] == {("toxic", "single-turn"): 661, ("toxic", "multi-turn"): 1651}


def test_harmful_sets_overlap(reference_file):
    names = ("advbench", "jailbreakbench", "strongreject", "malicious-instruct")
    sets = {name: read_set(name, reference_file(COUNTS[name][0])) for name in names}
    overlaps = {}
    for n, first in enumerate(names):
        for second in names[n + 1 :]:
            overlaps |= pool([*sets[first], *sets[second]]).removed
    assert overlaps == {
        ("advbench", "jailbreakbench"): 11,
        ("advbench", "strongreject"): 25,
        ("jailbreakbench", "strongreject"): 3,
        ("strongreject", "malicious-instruct"): 12,
    }
    everything = pool([prompt for prompts in sets.values() for prompt in prompts])
    assert len(everything.prompts) == 1033 - sum(everything.removed.values())
    # Three prompts are in three sets, and go once.
    assert sum(everything.removed.values()) == 48


def test_refinement_on_the_published_sets(reference_file):
    xstest = read_set("xstest", reference_file("xstest/xstest_prompts.csv"))
    dialogues = read_set("hh-rlhf", reference_file(HH))
    found = refinement_prompts(xstest, ["homonyms"], negatives="both", dialogues=dialogues)
    assert (len(found.seeming), len(found.toxic), len(found.test)) == (225, 675, 50)
    assert found.shared_words == 18
