"""Which requests of a published data set, and how those of CIMemories are labelled."""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from experiments.common.chats.model import Model
from experiments.persona_leakage.published.cimemories import (
    KeyFilter,
    Profile,
    disclosures,
    read_cimemories,
)
from experiments.persona_leakage.published.labels import RULES, rule_labels
from experiments.persona_leakage.published.persistbench import read_persistbench
from experiments.persona_leakage.published.requests import Request
from experiments.persona_leakage.published.sources import Benchmark
from experiments.persona_leakage.published.usafebench import Cluster, read_usafebench
from experiments.persona_leakage.published.votes import VOTES, vote_identity, vote_labels
from gdpo_jax.errors import UserError

__all__ = ["Chosen", "Selection", "check_selection", "choose"]

_OF_ONE = {
    "key_filter": "CIMemories",
    "labels": "CIMemories",
    "votes": "CIMemories",
    "cluster": "U-SafeBench",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Which requests."""

    limit: int | None = None
    """Requests of each part, or of CIMemories tasks of each user, drawn with --draw-seed; all
    unless given."""
    draw_seed: int = 0
    """Of what is drawn."""
    labels: Literal["rules", "votes"] = "rules"
    """Of CIMemories: what a task needs and what is private in it, by rules about subjects, or by
    votes of the model that judges, as its authors have it."""
    votes: int = VOTES
    """Of CIMemories: votes of each of three attitudes to privacy."""
    key_filter: KeyFilter = "words"
    """Of CIMemories: which private keys are left out for naming name, address, sex or age: words
    finds them as whole words, substrings also in mortgage and miscarriage, as published."""
    cluster: Cluster = "instruction"
    """Of U-SafeBench: rows that are resampled together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """Requests, and JSON values on what distinguishes their labels and clusters from others."""

    requests: tuple[Request, ...]
    about: Mapping[str, Any]


def check_selection(selection: Selection, benchmark: Benchmark) -> None:
    """Raises UserError for options that mean nothing, or do nothing for this data set."""
    if selection.limit is not None and selection.limit < 1:
        raise UserError(f"--limit {selection.limit}; give at least 1")
    if selection.votes < 1:
        raise UserError(f"--votes {selection.votes}; give at least 1")
    usual = Selection()
    for name, owner in _OF_ONE.items():
        if owner != benchmark.name and getattr(selection, name) != getattr(usual, name):
            raise UserError(
                f"--{name.replace('_', '-')} belongs to {owner}, and the source is "
                f"{benchmark.name}; leave it out"
            )
    if selection.labels == "rules" and selection.votes != usual.votes:
        raise UserError("--votes belongs to --labels votes")


def choose(
    selection: Selection,
    benchmark: Benchmark,
    files: Sequence[Path],
    voter: Callable[[], Model],
) -> Chosen:
    """The requests that are meant. voter: gives the model that votes, where labels are votes.

    Raises UserError for damaged files, as the readers, and for labels that leave nothing to ask.
    """
    rng = random.Random(selection.draw_seed)
    if benchmark.name == "CIMemories":
        if len(files) > 1:
            raise UserError(
                f"--source holds {' and '.join(file.name for file in files)}, whose users have the "
                "same numbers; give one of the files"
            )
        profiles = [profile for file in files for profile in read_cimemories(file)]
        if selection.limit is not None:
            profiles = [_fewer_tasks(profile, selection.limit, rng) for profile in profiles]
        if selection.labels == "votes":
            model = voter()
            labels = [vote_labels(model, p, votes=selection.votes) for p in profiles]
            identity = vote_identity(model, selection.votes)
        else:
            labels, identity = [rule_labels(profile) for profile in profiles], RULES
        requests = [
            request
            for profile, own in zip(profiles, labels, strict=True)
            for request in disclosures(profile, own, key_filter=selection.key_filter)
        ]
        if not requests:
            raise UserError(
                f"by these labels no task of {files[0]} has both private and necessary attributes; "
                "give other --labels"
            )
        return Chosen(
            requests=tuple(requests),
            about={**identity, "key filter": selection.key_filter},
        )
    if benchmark.name == "PersistBench":
        read, about = [read_persistbench(file) for file in files], {}
    else:
        read = [read_usafebench(file, cluster=selection.cluster) for file in files]
        about = {"cluster": selection.cluster}
    if selection.limit is not None:
        read = [_drawn(requests, selection.limit, rng) for requests in read]
    return Chosen(requests=tuple(r for requests in read for r in requests), about=about)


def _fewer_tasks(profile: Profile, limit: int, rng: random.Random) -> Profile:
    return dataclasses.replace(profile, contexts=_drawn(profile.contexts, limit, rng))


def _drawn(items: tuple, limit: int, rng: random.Random) -> tuple:
    """At most so many, in their order."""
    places = sorted(rng.sample(range(len(items)), min(limit, len(items))))
    return tuple(items[place] for place in places)
