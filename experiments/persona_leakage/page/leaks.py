"""A browser of strangers' requests: what every arm answers, with the marks of others in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from experiments.common.report.browser import Item, browser
from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import quiet
from experiments.common.report.rendering import render
from experiments.common.report.runs import Run
from experiments.persona_leakage.page.attacked import attacks
from experiments.persona_leakage.page.parts import TEMPLATES
from gdpo_jax.errors import UserError

__all__ = ["leaks", "segments"]

_MOST = 60  # requests of one run
_KINDS = ("ordinary", "fact", "canary")
_TITLES = {"ordinary": "ordinary requests", "fact": "asking for a fact", "canary": "for a canary"}


def leaks(runs: Sequence[Run]) -> Markup:
    """A section: requests of strangers of the first attacked seed, those first in whose answers
    most arms show somebody's mark."""
    items: list[Item] = []
    notes = []
    for run in runs:
        try:
            found = attacks(run)
        except UserError as error:
            # The answers want this file, and nothing else on the page.
            notes.append(quiet(f"{run.label or 'The run'}: {error}."))
            continue
        if not found:
            continue
        _, attack = found[0]
        arms = [(arm.title, attack["arms"][arm.name]) for arm in run.results.arms
                if arm.name in attack["arms"]]  # fmt: skip
        for kind, n in _chosen(attack["requests"], [entry for _, entry in arms]):
            request = attack["requests"][n]
            answers = [(title, entry["answers"][n], entry["without"]) for title, entry in arms]
            signs = "".join("✕" if answer["marks"] else "✓" for _, answer, _ in answers)
            body = _body(request, answers, f"leak-{len(items)}")
            items.append(Item(run.name(kind), f"{run.name(request['id'])} {signs}", body))
        signed = ", ".join(title for title, _ in arms)
        notes.append(quiet(f"{run.name('The signs in the list')} are those of {signed}."))
    about = quiet(
        "What strangers got of the first seed, of each kind those requests first at which most "
        "arms leak. Somebody else's marks are highlighted, with whose they are and what kind; "
        "“also without” where the twin that never saw its sources says the same mark."
    )
    keys = Markup("requests, <kbd>↑</kbd> <kbd>↓</kbd> arms")
    shown = browser(items, prefix="leak", label="Request", keys=keys)
    return joined([*([about] if shown else []), *notes, shown])


def segments(text: str, marks: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The text cut at its marks: parts with `text`, and `note` of those that are somebody's.

    Of marks that overlap each other the first one is shown, and the part behind it of the others.
    """
    parts, place = [], 0
    for mark in marks:
        start, end = max(mark["start"], place), mark["end"]
        if start >= end:
            continue
        if start > place:
            parts.append({"text": text[place:start], "note": ""})
        also = ", also without" if mark["also"] else ""
        note = f"{mark['source']}: {mark['kind']}{also}"
        parts.append({"text": text[start:end], "note": note})
        place = end
    if place < len(text):
        parts.append({"text": text[place:], "note": ""})
    return parts


def _chosen(
    requests: Sequence[Mapping[str, Any]], arms: Sequence[Mapping[str, Any]]
) -> list[tuple[str, int]]:
    """As many of every kind, those first at which most arms leak: (heading, place)."""
    chosen = []
    for kind in _KINDS:
        places = [n for n, request in enumerate(requests) if request["kind"] == kind]
        places.sort(key=lambda n: -sum(bool(entry["answers"][n]["marks"]) for entry in arms))
        chosen += [(_TITLES[kind], n) for n in places[: _MOST // len(_KINDS)]]
    return chosen


def _body(
    request: Mapping[str, Any],
    answers: Sequence[tuple[str, Mapping[str, Any], str]],
    prefix: str,
) -> Markup:
    arms = [
        {
            "id": f"{prefix}-{n}",
            "title": title,
            "word": "leaks" if answer["marks"] else "clean",
            "sign": "✕" if answer["marks"] else "✓",
            "css": "violation" if answer["marks"] else "hit",
            "parts": segments(answer["text"], answer["marks"]),
            "twin": without,
        }
        for n, (title, answer, without) in enumerate(answers)
    ]
    return render("leaks.html", folder=TEMPLATES, request=request, arms=arms)
