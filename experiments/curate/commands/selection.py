"""Which dialogues: of the embedded rows, published workbooks, PrefEval, or a data set on disk."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from experiments.curate.data.build_cases import CONTROL, balanced_rows, check_names
from experiments.curate.data.cases import Case
from experiments.curate.data.construction import CAREFUL, CURATE, MIRROR
from experiments.curate.data.distractors import own_distractors, read_distractors
from experiments.curate.data.prefeval import Form, prefeval_cases
from experiments.curate.data.scenarios import SCENARIOS
from experiments.curate.data.sources import OWN, open_cases
from experiments.curate.data.tfds_builder import load_cases, load_given
from gdpo_jax.errors import UserError

__all__ = ["SMALL", "Chosen", "Selection", "choose"]

SMALL = 4  # rows of each scenario in the small subset, balanced over categories
_WORDINGS = {"curate": CURATE, "mirror": MIRROR, "careful": CAREFUL}
_WORKBOOKS = ("wording",)
_PREFEVAL = ("form", "topics", "distractors", "distractor_file")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Which dialogues."""

    source: str = OWN
    """own (the embedded rows), a folder of CURaTe's published workbooks, PrefEval's folder
    benchmark_dataset, or a folder that the command data wrote."""
    scenarios: tuple[str, ...] = ()
    """Scenarios, ablations and variants by name, each also with -control for own rows; unless
    given the five scenarios, of own rows with their controls, and all of a data set."""
    subset: Literal["whole", "small"] = "whole"
    """small: 4 rows of each scenario, balanced over categories and drawn with --data-seed."""
    limit: int | None = None
    """Rows of each scenario, as for the small subset, in another number."""
    data_seed: int = 0
    """Of what is drawn for a dialogue, and of the rows of a subset."""
    wording: Literal["curate", "mirror", "careful"] = "curate"
    """Of CURaTe's turns: as its results were made, as MIRROR's runner words them, or without the
    published slips."""
    form: Form = "explicit"
    """Of PrefEval: how the preference is let known."""
    topics: tuple[str, ...] = ()
    """Of PrefEval; all there are unless given."""
    distractors: int = 0
    """Of PrefEval: exchanges about other things behind the preference."""
    distractor_file: Path | None = None
    """Of PrefEval: where they come from; trivia and sums unless given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """Cases, answers to their earlier turns that are given, and how they were chosen."""

    cases: tuple[Case, ...]
    given: Mapping[str, tuple[str, ...]]  # by the case's id
    about: Mapping[str, Any]  # JSON values


def choose(selection: Selection) -> Chosen:
    """The dialogues that are meant.

    Raises UserError for options that belong to another source, unknown names, and files that are
    missing or damaged.
    """
    if selection.subset == "small" and selection.limit is not None:
        raise UserError("--subset small and --limit both say how many rows; give one of them")
    limit = SMALL if selection.subset == "small" else selection.limit
    kind = _kind(selection.source)
    _check_options(selection, kind)
    if kind == "PrefEval":
        cases, given = _preferences(selection)
    elif kind == "data set":
        folder, names = Path(selection.source), selection.scenarios or None
        cases, given = load_cases(folder, names), load_given(folder, names)
    else:
        names = selection.scenarios or SCENARIOS
        if selection.source == OWN and not selection.scenarios:
            names = (*names, *(name + CONTROL for name in names))
        construction = _WORDINGS[selection.wording]
        seed = selection.data_seed
        cases = open_cases(
            selection.source, names, limit=limit, seed=seed, construction=construction
        )
        given, limit = {}, None
    kept = cases if limit is None else _limited(cases, limit, selection.data_seed)
    about = {
        "kind": kind,
        **dataclasses.asdict(selection),
        "distractor_file": selection.distractor_file and str(selection.distractor_file),
    }
    here = {case.id for case in kept}
    return Chosen(
        cases=tuple(kept),
        given={name: tuple(texts) for name, texts in given.items() if name in here},
        about=about,
    )


def _kind(source: str) -> str:
    if source == OWN:
        return "own"
    folder = Path(source)
    if not folder.is_dir():
        raise UserError(
            f"--source {source} is no folder; give own, a folder of CURaTe's workbooks, PrefEval's "
            "folder benchmark_dataset, or a folder that `data` wrote"
        )
    if (folder / "curate").is_dir():
        return "data set"
    if any((folder / name).is_dir() for name in ("explicit_preference", "implicit_preference")):
        return "PrefEval"
    return "workbooks"


def _check_options(selection: Selection, kind: str) -> None:
    """Raises UserError for an option that would do nothing."""
    usual = Selection()
    idle = {
        "own": _PREFEVAL,
        "workbooks": _PREFEVAL,
        "PrefEval": (*_WORKBOOKS, "scenarios"),
        "data set": (*_WORKBOOKS, *_PREFEVAL),
    }[kind]
    for name in idle:
        if getattr(selection, name) != getattr(usual, name):
            raise UserError(
                f"--{name.replace('_', '-')} does nothing for --source {selection.source}, which "
                f"is {kind}; leave it out"
            )
    if kind in ("own", "workbooks"):
        check_names(selection.scenarios)


def _preferences(selection: Selection) -> tuple[list[Case], dict[str, tuple[str, ...]]]:
    count, path = selection.distractors, selection.distractor_file
    if path is None:
        exchanges = own_distractors(count, seed=selection.data_seed)
    else:
        exchanges = read_distractors(path, count)
    found = prefeval_cases(
        Path(selection.source),
        selection.form,
        distractors=exchanges,
        topics=selection.topics or None,
        seed=selection.data_seed,
    )
    return [one.case for one in found], {one.case.id: one.given for one in found if any(one.given)}


def _limited(cases: Sequence[Case], limit: int, seed: int) -> list[Case]:
    """At most so many cases of each scenario, balanced over categories."""
    scenarios: dict[str, list[Case]] = {}
    for case in cases:
        scenarios.setdefault(case.scenario, []).append(case)
    return [
        members[n]
        for members in scenarios.values()
        for n in balanced_rows(members, limit=limit, seed=seed)
    ]
