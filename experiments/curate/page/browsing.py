"""A browser of dialogues: what the user said, and what every arm answered to it."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from experiments.common.report.browser import Item, browser
from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import quiet
from experiments.common.report.rendering import render
from experiments.common.report.runs import Run
from experiments.curate.data.cases import Case
from experiments.curate.page.answers import Answered, ArmAnswer, held_dialogues, last_answers
from experiments.curate.page.marks import silent_after, stated_in, turn_marks
from experiments.curate.page.parts import TEMPLATES
from gdpo_jax.errors import UserError

__all__ = ["dialogues"]

_MOST = 60  # dialogues of one run
_SIGNS = {True: "✓", False: "✕", None: "?"}
_CSS = {True: "hit", False: "violation", None: "unknown"}


def dialogues(runs: Sequence[Run]) -> Markup:
    """A section: dialogues of the first seed, those first on which arms differ."""
    items: list[Item] = []
    notes = []
    for run in runs:
        try:
            found = held_dialogues(run) or last_answers(run)
        except UserError as error:
            # The dialogues want these files, and nothing else on the page.
            notes.append(quiet(f"{run.label or 'The run'}: {error}."))
            continue
        chosen = _chosen(found)
        for case, held in chosen:
            signs = "".join(_SIGNS[one.judgement.good] for one in held)
            body = _shown(case, held, f"dialogue-{len(items)}")
            items.append(Item(run.name(case.scenario), f"{run.name(case.id)} {signs}", body))
        if chosen:
            count = f"{len(chosen)} of {len(found)}" if len(chosen) < len(found) else "All"
            notes.append(
                quiet(
                    f"{run.name(count)} dialogues of the first seed, of each scenario those first "
                    f"on which arms differ; the signs in the list are those of "
                    f"{', '.join(one.arm for one in chosen[0][1])}."
                )
            )
    keys = Markup("dialogues, <kbd>↑</kbd> <kbd>↓</kbd> arms")
    return joined([*notes, browser(items, prefix="dialogue", label="Dialogue", keys=keys)])


def _chosen(found: Sequence[Answered]) -> list[Answered]:
    """As many of each scenario, scenarios together in their order."""
    scenarios: dict[str, list[Answered]] = {}
    for one in found:
        scenarios.setdefault(one.case.scenario, []).append(one)
    most = max(1, _MOST // max(1, len(scenarios)))

    def agreed(one: Answered) -> bool:
        return len({held.judgement.good for held in one.held}) == 1

    return [one for members in scenarios.values() for one in sorted(members, key=agreed)[:most]]


def _shown(case: Case, held: Sequence[ArmAnswer], prefix: str) -> Markup:
    stated = stated_in(case)
    facts = {
        "The constraint": case.constraint,
        "Said in turn": "other words" if stated is None else str(stated + 1),
        "Category": case.category,
        "Scenario": case.scenario + (", the constraint does not matter" if case.control else ""),
    }
    return render(
        "dialogue.html",
        folder=TEMPLATES,
        turns=[
            {"number": number, "text": turn, "mark": mark}
            for number, (turn, mark) in enumerate(zip(case.turns, turn_marks(case)), start=1)
        ],
        facts=facts,
        arms=[_arm(case, one, f"{prefix}-{n}") for n, one in enumerate(held)],
    )


def _arm(case: Case, held: ArmAnswer, name: str) -> dict[str, Any]:
    judgement = held.judgement
    shown = {
        "id": name,
        "title": held.arm,
        "word": judgement.word,
        "sign": _SIGNS[judgement.good],
        "css": _CSS[judgement.good],
        "reason": judgement.reason,
        "lost": "",
        "errors": (),
    }
    if held.dialogue is None:
        last = {"number": len(case.turns), "text": held.text, "narrative": "", "lost": False}
        return shown | {"answers": [last]}
    dialogue = held.dialogue
    lost = silent_after(case, dialogue.narratives)
    narratives = [*dialogue.narratives, *([""] * len(dialogue.answers))]
    answers = [
        {"number": n + 1, "text": text, "narrative": narratives[n], "lost": n in lost}
        for n, text in enumerate(dialogue.answers)
    ]
    if lost:
        shown["lost"] = f"The first narrative without the constraint is after turn {lost[0] + 1}."
    return shown | {"answers": answers, "errors": dialogue.errors}
