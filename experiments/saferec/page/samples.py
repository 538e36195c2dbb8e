"""What the sample browser shows of a group: its conversation, and what each completion earned.

Advantages are the ones the update used; `marks.py` says where marks and z-scores come from.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.common.report.rendering import render
from experiments.saferec.lists.records import active_traits, groundtruth
from experiments.saferec.metrics import prompt_text
from experiments.saferec.oracle.catalogue import Oracle
from experiments.saferec.oracle.conventions import FIXED, Convention
from experiments.saferec.page.marks import MARKS, Item, group_z_scores, mark_items

_TEMPLATES = Path(__file__).parent / "templates"
# Where a prompt changes speaker, in the embedded records and in the published ones.
_TURN = re.compile(r"(?=\b(?:USER|SYSTEM|ASSISTANT|RECOMMENDER):)")


def show_group(
    sample: Mapping[str, Any], prefix: str, *, oracle: Oracle | None, convention: Convention = FIXED
) -> Markup:
    """One kept group; its ids begin with `prefix`."""
    record, rewards = sample["record"], sample["rewards"]
    z = group_z_scores(rewards, convention=convention)
    overall = [float(np.mean(advantage)) for advantage in sample["advantages"]]
    largest = max(map(abs, overall), default=0.0) or 1.0
    completions = []
    for g in sorted(range(len(overall)), key=lambda g: -overall[g]):
        text = sample["completions"][g]
        items = mark_items(text, record, oracle, convention=convention)
        earned = {name: column[g] for name, column in rewards.items()}
        by_rank = z[g].ndim == 2
        completions.append(
            {
                "id": f"{prefix}-{g}",
                "number": g + 1,
                "titles": len(items),
                "hits": sum("hit" in item.marks for item in items),
                "violations": sum("violation" in item.marks for item in items),
                "advantage": _number(overall[g]),
                "share": overall[g] / largest,
                "rows": _rank_rows(items, earned, z[g], sample["advantages"][g])
                if by_rank
                else _answer_rows(items, earned, z[g], overall[g]),
                "text": _marked(text, items),
            }
        )
    return render(
        "group.html",
        folder=_TEMPLATES,
        turns=_turns(record),
        facts=_facts(record),
        completions=completions,
        rewards=list(rewards),
        marks=MARKS,
    )


def _turns(record: Mapping[str, Any]) -> list[dict[str, str]]:
    turns = []
    for part in _TURN.split(prompt_text(record)):
        if _TURN.match(part):
            speaker, _, said = part.partition(":")
            css = "user" if speaker == "USER" else "system"
            turns.append({"css": css, "speaker": speaker, "text": said.strip()})
        elif part.strip():
            turns.append({"css": "task", "speaker": "", "text": part.strip()})
    return turns


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    facts = {"Sensitive to": "; ".join(active_traits(record)) or "nothing"}
    if "said_outright" in record:
        facts["Said"] = "outright" if record["said_outright"] else "by a hint"
    facts["Liked next"] = _films(groundtruth(record))
    facts["Liked, but removed for safety"] = _films(record.get("removed_groundtruth", ()))
    return facts


def _films(films: Sequence[Sequence[Any]]) -> str:
    return ", ".join(f"{title} ({year})" for title, year, *_ in films) or "none"


def _rank_rows(
    items: Sequence[Item], rewards: Mapping[str, Any], z: np.ndarray, advantage: Any
) -> list[dict[str, Any]]:
    """A row per rank, with what it earned."""
    rows = []
    for rank in range(max(z.shape[1], len(items))):
        row = _row(items[rank] if rank < len(items) else None, rank + 1)
        if rank < z.shape[1]:
            here = advantage[rank] if isinstance(advantage, Sequence) else advantage
            earned = [values[rank] for values in rewards.values()]
            row |= _earned(earned, z[:, rank], here)
        else:
            row["blank"] = Markup("<td>-</td>") * (2 * len(rewards) + 1)
        rows.append(row)
    return rows


def _answer_rows(
    items: Sequence[Item], rewards: Mapping[str, Any], z: np.ndarray, advantage: float
) -> list[dict[str, Any]]:
    """A row for what the whole answer earned, and one per title."""
    whole = {"rank": None, "title": "the whole answer", "marks": ()}
    blank = Markup("<td></td>") * (2 * len(rewards) + 1)
    rows = [_row(item, rank) | {"blank": blank} for rank, item in enumerate(items, start=1)]
    return [whole | _earned(list(rewards.values()), z, advantage), *rows]


def _row(item: Item | None, rank: int) -> dict[str, Any]:
    title = "" if item is None else f"{item.film.title} ({item.film.year})"
    marks = () if item is None else item.marks
    return {"rank": rank, "title": title, "marks": marks, "cells": (), "blank": ""}


def _earned(values: Sequence[Any], scores: np.ndarray, advantage: float) -> dict[str, Any]:
    cells = [(_number(value), _signed(float(score))) for value, score in zip(values, scores)]
    return {"cells": cells, "advantage": _signed(float(advantage))}


def _signed(value: float) -> dict[str, str]:
    """A cell shaded by sign and size, full at three."""
    tone = "plus" if value > 0 else "minus" if value < 0 else ""
    return {"tone": tone, "share": f"{min(1.0, abs(value) / 3.0):.2f}", "text": _number(value)}


def _marked(text: str, items: Sequence[Item]) -> list[dict[str, str]]:
    """The text in parts, those of an item with a mark apart."""
    parts, position = [], 0
    for item in (item for item in items if item.marks):
        line = text[item.film.start : item.film.end]
        body = line.rstrip("\n")
        worst = "violation" if "violation" in item.marks else item.marks[0]
        label = ", ".join(MARKS[mark] for mark in item.marks)
        parts.append({"css": "", "text": text[position : item.film.start]})
        parts.append({"css": worst, "text": body, "label": label, "end": line[len(body) :]})
        position = item.film.end
    return [*parts, {"css": "", "text": text[position:]}]


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") if value else "0"


__all__ = ["show_group"]
