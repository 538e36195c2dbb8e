"""The sample browser of the report: a conversation, its group of completions, and what each earned.

Advantages are the ones the update used; `marks.py` says where marks and z-scores come from.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from experiments.common.report.runs import Run
from experiments.saferec.lists.records import active_traits, groundtruth
from experiments.saferec.metrics import prompt_text
from experiments.saferec.oracle.catalogue import Oracle
from experiments.saferec.oracle.conventions import FIXED, Convention
from experiments.saferec.page.marks import MARKS, Item, group_z_scores, mark_items

# Where a prompt changes speaker, in the embedded records and in the published ones.
_TURN = re.compile(r"(?=\b(?:USER|SYSTEM|ASSISTANT|RECOMMENDER):)")


def sample_browser(runs: Sequence[Run]) -> str:
    """The kept groups of the first seed of every arm, to be leafed through; empty without any."""
    choices, templates = [], []
    for run in runs:
        for arm in run.arms:
            for seed, kept in list(arm.samples.items())[:1]:
                options = []
                title = run.name(arm.result.title)
                for sample in kept:
                    key = f"{run.key(arm.result.name)}/{seed}/{sample['step']}"
                    shown = f"{title}, step {sample['step']}"
                    options.append(f'<option value="{escape(key)}">{escape(shown)}</option>')
                    article = sample_article(
                        sample, run.oracle, number=len(templates), convention=run.convention
                    )
                    templates.append(f'<template data-sample="{escape(key)}">{article}</template>')
                if options:
                    label = f"{title}, seed {seed}"
                    choices.append(
                        f'<optgroup label="{escape(label)}">{"".join(options)}</optgroup>'
                    )
    if not templates:
        return ""
    bare = [run.label or "The run" for run in runs if run.oracle is None]
    note = (
        f'<p class="quiet">{escape(", ".join(bare))}: the data set was not found beside it, so '
        "only the ground truth that was removed for safety is marked as violating.</p>"
        if bare
        else ""
    )
    return (
        '<p class="quiet">Groups that the first seed sampled while training, best advantage first. '
        "z is a reward's z-score inside its group, and the advantage is the one the update used."
        f'</p>{note}<div class="browser"><div class="controls">'
        '<label for="sample-choice">Group</label>'
        f'<select id="sample-choice">{"".join(choices)}</select>'
        '<button type="button" id="sample-before">Previous</button>'
        '<button type="button" id="sample-after">Next</button>'
        '<span class="quiet keys"><kbd>←</kbd> <kbd>→</kbd> groups, <kbd>↑</kbd> <kbd>↓</kbd> '
        'completions</span></div><p class="unseen" role="status" id="sample-told"></p>'
        f'<div id="sample-view"></div>{"".join(templates)}'
        "<noscript><p>The groups need JavaScript.</p></noscript></div>"
    )


def sample_article(
    sample: Mapping[str, Any],
    oracle: Oracle | None,
    *,
    number: int,
    convention: Convention = FIXED,
) -> str:
    """One kept group as HTML; `number` makes its ids its own."""
    record, rewards = sample["record"], sample["rewards"]
    z = group_z_scores(rewards, convention=convention)
    overall = [_overall(advantage) for advantage in sample["advantages"]]
    largest = max((abs(value) for value in overall), default=0.0) or 1.0
    tabs, panels = [], []
    for place, g in enumerate(sorted(range(len(overall)), key=lambda g: -overall[g])):
        text = sample["completions"][g]
        items = mark_items(text, record, oracle, convention=convention)
        own = f"completion-{number}-{g}"
        first = place == 0
        hits, violations = _tally(items)
        told = (
            f"Completion {g + 1}: {len(items)} titles, {hits} liked, {violations} violating, "
            f"advantage {_number(overall[g])}"
        )
        tabs.append(
            f'<button type="button" role="tab" id="{own}-tab" aria-controls="{own}" '
            f'aria-label="{escape(told)}" '
            f'aria-selected="{str(first).lower()}" tabindex="{0 if first else -1}">'
            f"{_tab(g, items, overall[g], largest)}</button>"
        )
        panels.append(
            f'<div role="tabpanel" id="{own}" aria-labelledby="{own}-tab" tabindex="0"'
            f"{'' if first else ' hidden'}>"
            + _panel(
                text,
                items,
                {name: column[g] for name, column in rewards.items()},
                z[g],
                sample["advantages"][g],
            )
            + "</div>"
        )
    return (
        f'<article class="sample"><div class="talk">{_conversation(record)}</div>'
        '<div class="group"><div role="tablist" aria-orientation="vertical" '
        f'aria-label="Completions, best advantage first">{"".join(tabs)}</div>'
        f"<div>{''.join(panels)}</div></div></article>"
    )


def _conversation(record: Mapping[str, Any]) -> str:
    turns = []
    for part in _TURN.split(prompt_text(record)):
        if _TURN.match(part):
            speaker, _, said = part.partition(":")
            css = "user" if speaker == "USER" else "system"
            turns.append(f'<li class="{css}"><b>{speaker}</b>{escape(said.strip())}</li>')
        elif part.strip():
            turns.append(f'<li class="task">{escape(part.strip())}</li>')
    facts = {
        "Sensitive to": "; ".join(active_traits(record)) or "nothing",
        "Said": "outright" if record.get("said_outright") else "by a hint",
        "Liked next": _films(groundtruth(record)),
        "Liked, but removed for safety": _films(record.get("removed_groundtruth", ())),
    }
    if "said_outright" not in record:
        del facts["Said"]
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items()
    )
    return f'<ul class="turns">{"".join(turns)}</ul><dl>{rows}</dl>'


def _films(films: Sequence[Sequence[Any]]) -> str:
    return ", ".join(f"{title} ({year})" for title, year, *_ in films) or "none"


def _tab(number: int, items: Sequence[Item], advantage: float, largest: float) -> str:
    hits, violations = _tally(items)
    sign = " minus" if advantage < 0 else ""
    return (
        f'<span><span class="long">Completion </span>{number + 1}</span>'
        f'<span class="advantage">{_number(advantage)}</span>'
        f'<span class="tally">{len(items)} titles <span class="hit">✓ {hits}'
        f'<span class="long"> liked</span></span> <span class="violation">✕ {violations}'
        '<span class="long"> violating</span></span></span>'
        f'<span class="meter{sign}" style="--v:{abs(advantage) / largest:.3f}"></span>'
    )


def _tally(items: Sequence[Item]) -> tuple[int, int]:
    """How many titles are liked and how many violate."""
    hits, violations = (sum(mark in i.marks for i in items) for mark in ("hit", "violation"))
    return hits, violations


def _panel(
    text: str, items: Sequence[Item], rewards: Mapping[str, Any], z: np.ndarray, advantage: Any
) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th><th scope="col">z</th>' for name in rewards)
    per_rank = z.ndim == 2
    body = _rank_rows(items, rewards, z, advantage) if per_rank else _rows_of_answer(
        items, rewards, z, advantage
    )  # fmt: skip
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Rewards and advantages">'
        '<table class="numbers items"><thead><tr><th scope="col">title</th>'
        f'{head}<th scope="col">advantage</th></tr></thead><tbody>{body}</tbody></table></div>'
        f"<details><summary>The text as it was written</summary>"
        f'<pre class="text">{_marked(text, items)}</pre></details>'
    )


def _rank_rows(
    items: Sequence[Item], rewards: Mapping[str, Any], z: np.ndarray, advantage: Any
) -> str:
    rows = []
    for rank in range(max(z.shape[1], len(items))):
        item = items[rank] if rank < len(items) else None
        if rank >= z.shape[1]:
            rows.append(_row(rank, item, "<td>-</td>" * (2 * len(rewards) + 1)))
            continue
        cells = "".join(
            f"<td>{_number(values[rank])}</td>{_signed(float(scores[rank]))}"
            for values, scores in zip(rewards.values(), z)
        )
        here = advantage[rank] if isinstance(advantage, Sequence) else advantage
        rows.append(_row(rank, item, cells + _signed(float(here), css="final")))
    return "".join(rows)


def _rows_of_answer(
    items: Sequence[Item], rewards: Mapping[str, Any], z: np.ndarray, advantage: Any
) -> str:
    cells = "".join(
        f"<td>{_number(value)}</td>{_signed(float(score))}"
        for value, score in zip(rewards.values(), z)
    )
    total = cells + _signed(_overall(advantage), css="final")
    empty = "<td></td>" * (2 * len(rewards) + 1)
    films = "".join(_row(rank, item, empty) for rank, item in enumerate(items))
    return f'<tr><th scope="row">the whole answer</th>{total}</tr>{films}'


def _row(rank: int, item: Item | None, cells: str) -> str:
    if item is None:
        name = '<span class="nothing">no title</span>'
    else:
        name = escape(f"{item.film.title} ({item.film.year})") + "".join(
            f'<span class="mark {mark}">{MARKS[mark]}</span>' for mark in item.marks
        )
    return f'<tr><th scope="row"><span class="rank">{rank + 1}</span>{name}</th>{cells}</tr>'


def _signed(value: float, *, css: str = "") -> str:
    """A cell shaded by sign and size, full at three."""
    if not value:
        return f'<td class="{css}">0</td>' if css else "<td>0</td>"
    tone = "plus" if value > 0 else "minus"
    share = min(1.0, abs(value) / 3.0)
    return (
        f'<td class="signed {tone}{" " + css if css else ""}" style="--v:{share:.2f}">'
        f"{_number(value)}</td>"
    )


def _marked(text: str, items: Sequence[Item]) -> str:
    """The text, escaped, with a mark behind every item line that has one."""
    parts, position = [], 0
    for item in items:
        line = text[item.film.start : item.film.end]
        parts.append(escape(text[position : item.film.start]))
        position = item.film.end
        if not item.marks:
            parts.append(escape(line))
            continue
        body = line.rstrip("\n")
        labels = ", ".join(MARKS[mark] for mark in item.marks)
        worst = "violation" if "violation" in item.marks else item.marks[0]
        parts.append(
            f'<span class="{worst}">{escape(body)} <b>{escape(labels)}</b></span>'
            f"{line[len(body) :]}"
        )
    return "".join(parts) + escape(text[position:])


def _overall(advantage: Any) -> float:
    """The advantage of a completion: its own, or the mean over its ranks."""
    return float(np.mean(advantage))


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") if value else "0"


__all__ = ["sample_article", "sample_browser"]
