"""What each published set looks like: its files, columns and labels, one row of a table a set.

Columns, labels and traps as published with XSTest (arXiv 2308.01263), CoCoNot (2407.12043),
OR-Bench (2405.20947), OKTest (2401.17633), PHTest (2409.00598), HH-RLHF (2204.05862),
Safety-Tuned LLaMAs (2309.07875), AdvBench (2307.15043), JailbreakBench (2404.01318), StrongREJECT
(2402.10260), MaliciousInstruct (2310.06987) and Alpaca. `docs/dcr_data.md` has their licences.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from experiments.dcr.data.prompts import PLAIN, SEEMING, TOXIC

__all__ = ["FORMATS", "XSTEST_CONTRASTS", "Format"]

# XSTest's types of safe prompts, each with the type of its harmful contrast prompts.
XSTEST_CONTRASTS: Mapping[str, str] = MappingProxyType(
    {
        "homonyms": "contrast_homonyms",
        "figurative_language": "contrast_figurative_language",
        "safe_targets": "contrast_safe_targets",
        "safe_contexts": "contrast_safe_contexts",
        "definitions": "contrast_definitions",
        "real_group_nons_discr": "contrast_discr",
        "nons_group_real_discr": "contrast_discr",
        "historical_events": "contrast_historical_events",
        "privacy_public": "contrast_privacy",
        "privacy_fictional": "contrast_privacy",
    }
)
_OR_BENCH = (
    "deception",
    "harassment",
    "harmful",
    "hate",
    "illegal",
    "privacy",
    "self-harm",
    "sexual",
    "unethical",
    "violence",
)
_CONTRAST = (
    "Requests with safety concerns",
    "Incomplete requests",
    "Unsupported requests",
)
_EVAL = (*_CONTRAST, "Indeterminate requests", "Humanizing requests")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """How rows of a set become prompts."""

    files: tuple[str, ...]  # published names, without folders
    text: tuple[str, ...] = ("prompt",)  # columns; filled ones are joined by a blank line
    kind: str = ""  # of all prompts; "" where the column `label` decides
    label: str = ""  # column with the label
    kinds: Mapping[str, str] = dataclasses.field(default_factory=dict)  # kind by label
    type: str = ""  # column, or "" for sets without types
    types: tuple[str, ...] = ()  # the values that `type` may have; () for any
    id: str = ""  # column; "" counts rows from 0
    cluster: str = ""  # column; where it is "" or empty in a row, equal texts are a cluster
    answer: str = ""  # column
    rejected: str = ""  # column
    lists: bool = False  # one JSON object with a list for each column
    end: str = ""  # an ending of all texts that gives the class away, put right to one full stop


def _instructions(name: str, kind: str, **options) -> Format:
    return Format(files=(name,), text=("instructions",), kind=kind, lists=True, **options)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "xstest": Format(
            files=("xstest_prompts.csv",),
            label="label",
            kinds=MappingProxyType({"safe": SEEMING, "unsafe": TOXIC}),
            type="type",
            types=(*XSTEST_CONTRASTS, *dict.fromkeys(XSTEST_CONTRASTS.values())),
            id="id",
            cluster="focus",
        ),
        "coconot": Format(
            files=("coconot_contrast_eval.jsonl",),
            kind=SEEMING,
            type="category",
            types=_CONTRAST,
            id="id",
        ),
        "coconot-eval": Format(
            files=("coconot_eval.jsonl",), kind=TOXIC, type="category", types=_EVAL, id="id"
        ),
        "coconot-pref": Format(
            files=("coconot_pref.jsonl",),
            kind=SEEMING,
            type="category",
            types=_CONTRAST,
            id="id",
            answer="chosen",
            rejected="rejected",
        ),
        "or-bench-hard": Format(
            files=("or-bench-hard-1k.csv",), kind=SEEMING, type="category", types=_OR_BENCH
        ),
        "or-bench-toxic": Format(
            files=("or-bench-toxic.csv",), kind=TOXIC, type="category", types=_OR_BENCH
        ),
        "oktest": Format(files=("OKTest.csv",), kind=SEEMING),
        "oktest-heldout": Format(files=("OKTest_heldout.csv",), kind=SEEMING),
        # Controversial prompts are neither clearly harmless nor clearly toxic: the type tells them.
        "phtest": Format(
            files=("PHTest.csv", "dataset_v0.1.csv"),
            text=("Request",),
            label="Harmfulness",
            kinds=MappingProxyType({"harmless": SEEMING, "controversial": SEEMING}),
            type="Harmfulness",
            id="ID",
        ),
        "safety-tuned": Format(
            files=("safety_only_data_Instructions.json",),
            text=("instruction", "input"),
            kind=TOXIC,
            answer="output",
        ),
        "advbench": Format(
            files=("advbench.csv", "harmful_behaviors.csv"), text=("goal",), kind=TOXIC
        ),
        "jailbreakbench": Format(
            files=("jailbreakbench.csv", "harmful-behaviors.csv"),
            text=("Goal",),
            kind=TOXIC,
            type="Category",
        ),
        "strongreject": Format(
            files=("strongreject.csv", "strongreject_dataset.csv"),
            text=("forbidden_prompt",),
            kind=TOXIC,
            type="category",
        ),
        "malicious-instruct": Format(
            files=("malicious_instruct.txt", "MaliciousInstruct.txt"), kind=TOXIC
        ),
        "i-alpaca": _instructions("I-Alpaca.json", PLAIN),
        "i-cona": _instructions("I-CoNa.json", TOXIC),
        "i-controversial": _instructions("I-Controversial.json", TOXIC),
        "i-malicious": _instructions("I-MaliciousInstructions.json", TOXIC, type="tags"),
        "i-physical-safe": _instructions("I-PhysicalSafetySafe.json", SEEMING),
        "i-physical-unsafe": _instructions("I-PhysicalSafetyUnsafe.json", TOXIC, end=".."),
        "alpaca-prompts": Format(files=("alpaca_prompts_5000.jsonl",), kind=PLAIN, id="index"),
        "alpaca": Format(
            files=("alpaca_data.json",),
            text=("instruction", "input"),
            kind=PLAIN,
            answer="output",
        ),
    }
)
