"""A small finished run folder, written by hand: real conversations, scores of chosen lists."""

import json
import math
from pathlib import Path

from experiments.common.report.report import report
from experiments.common.report.runs import load_runs
from experiments.common.scores.results import collect
from experiments.common.scores.summaries import summarize, write_json
from experiments.saferec.arms import ARMS as ARMS_OF_SAFEREC
from experiments.saferec.claims import CLAIMS
from experiments.saferec.metrics import METRICS, score_texts
from experiments.saferec.oracle.catalogue import Catalogue, film_oracle
from experiments.saferec.page.sections import SECTIONS as OWN_SECTIONS
from tests.experiments.saferec.films import listed

ARMS = (("sft", False, 10), ("safe-sft", True, 8), ("safe-gdpo", True, 10))
SECTIONS = (
    "Claims",
    "Results",
    "Trade-off",
    "Differences",
    "Said or hinted",
    "Sensitivities",
    "Learning curves",
    "Distributions",
    "Diagnostics",
    "Samples",
)
EVIL = '<img src=x onerror=alert(1)> {{nav}} & "quoted" </script>'


def write_pages(runs, out, *, bootstrap=100):
    """Writes the page about these run folders, as the command line does; returns `out`."""
    arms = [(arm.name, arm.title) for arm in ARMS_OF_SAFEREC if not arm.base]
    results = [collect(run, arms=arms, metrics=METRICS, bootstrap=bootstrap) for run in runs]
    found = load_runs(runs, results, arms=[name for name, _ in arms], claims=CLAIMS)
    return report("SafeRec", found, OWN_SECTIONS, out)


def chosen(record, films, oracle, *, safe, length):
    """A list of teacher films, only safe ones if asked; `oracle` decides."""
    traits = [record["assigned_trait"]]
    named = [(title, int(year)) for title, year in record["teacher"]]
    kept = [film for film in named if not (safe and oracle.violates(*film, traits))]
    return listed(*kept[:length])


def write_run(folder: Path, records, films, *, seeds=(0,), level="rank", steps=6):
    """Writes scores, metrics and samples of three arms; returns the folder."""
    oracle, catalogue = film_oracle(films), Catalogue((f.title, f.year) for f in films)
    for seed in seeds:
        for arm, safe, length in ARMS:
            place = folder / f"seed-{seed}" / arm
            texts = [chosen(r, films, oracle, safe=safe, length=length - seed) for r in records]
            table = score_texts(texts, records, oracle=oracle, catalogue=catalogue, ks=(5, 10))
            write_json(place / "scores.json", summarize(table, samples=2))
            rows = [metric_row(arm, step, seed) for step in range(steps)]
            (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        kept = [sample(step, records[step], films, oracle, level=level) for step in (0, 3)]
        path = folder / f"seed-{seed}" / "safe-gdpo" / "samples.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    return folder


def metric_row(arm, step, seed):
    row = {"step": step, "loss": math.exp(-step) + 0.01 * seed, "grad_norm": 1.0}
    if arm == "safe-gdpo":
        for name in ("relevance", "safety", "count"):
            row[f"reward/{name}/mean"] = 0.1 * step if name != "count" else None
            row[f"reward/{name}/zero_variance_fraction"] = 0.25
        row |= {"entropy": 2.0 - 0.1 * step, "kl/k3": 0.01 * step, "zero_variance_fraction": 0.0}
    return row


def sample(step, record, films, oracle, *, level):
    """A group of three: safe and long, unsafe, and one that is no list and hostile to the page."""
    texts = [
        "<reasoning>\nAvoid\n</reasoning>\n" + chosen(record, films, oracle, safe=True, length=3),
        chosen(record, films, oracle, safe=False, length=10).replace(
            "</solution>", "An Unknown Film (1999)\n</solution>"
        ),
        EVIL,
    ]
    if level == "rank":
        rewards = {
            "relevance": [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [None, None, None]],
            "safety": [[0.0, 0.0, 0.0], [-1.0, 0.0, -1.0], [None, None, None]],
        }
        advantages = [[1.5, 0.2, -0.1], [-1.0, 0.0, -0.5], [0.0, 0.0, 0.0]]
    else:
        rewards = {"relevance": [1.0, 0.0, 0.5], "safety": [0.0, -2.0, None]}
        advantages = [1.25, -1.25, 0.0]
    return {
        "step": step,
        "record": record,
        "completions": texts,
        "rewards": rewards,
        "advantages": advantages,
    }
