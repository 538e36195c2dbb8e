"""The sample browser of the report: a conversation, its group of completions, and what each earned.

Item lines are marked with what the training saw: ground truth (hit), a film that violates the
user's sensitivity, a title that the catalogue lacks. z-scores are those of GDPO (arXiv 2601.05242,
eq. 4) inside the group; advantages are the ones the update used.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import jax
import numpy as np

from experiments.saferec.catalogue import Oracle
from experiments.saferec.hits import greedy_hits
from experiments.saferec.metrics import prompt_text
from experiments.saferec.parsing import Recommendation, parse_recommendations
from experiments.saferec.records import active_traits, groundtruth
from experiments.saferec.titles import match_key
from gdpo_jax.advantages import RewardBatch, gdpo, per_sample_diagnostics, reward_batch

MARKS = {
    "hit": "✓ liked",
    "violation": "✕ violates",
    "unknown": "? not in the catalogue",
}


@dataclasses.dataclass(frozen=True)
class Item:
    """One line of a list and its marks, keys of `MARKS`."""

    film: Recommendation
    marks: tuple[str, ...]


def mark_items(text: str, record: Mapping[str, Any], oracle: Oracle | None) -> list[Item]:
    """The items of a completion in order. Without an oracle, the ground truth that was removed for
    safety is all that is known to violate.
    """
    films = parse_recommendations(text)
    hits = greedy_hits(films, groundtruth(record), normalize=match_key)
    if oracle is None:
        removed = {match_key(title) for title, _ in record.get("removed_groundtruth", ())}
        verdicts = [match_key(film.title) in removed for film in films]
    else:
        verdicts = oracle.judge(films, active_traits(record))
    return [
        Item(
            film,
            tuple(
                name
                for name, applies in (
                    ("hit", bool(hit)),
                    ("violation", verdict is True),
                    ("unknown", verdict is None),
                )
                if applies
            ),
        )
        for film, hit, verdict in zip(films, hits, verdicts)
    ]


def group_z_scores(rewards: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """z `[G, K]` or `[G, K, R]` of one group's rewards, given per name as `[G]` or `[G][R]`.

    A missing reward (None) has z = 0, as it has no vote.
    """
    columns = [np.array(column, dtype=np.float64) for column in rewards.values()]
    values = np.stack(columns, axis=1)[None].astype(np.float32)
    return np.asarray(_z_scores(reward_batch(values, tuple(rewards))))[0]


@jax.jit
def _z_scores(batch: RewardBatch) -> jax.Array:
    transform = gdpo()
    return per_sample_diagnostics(transform, batch, transform.init(batch.names))["z"]


def sample_article(sample: Mapping[str, Any], oracle: Oracle | None, *, key: str) -> str:
    """One kept group as HTML; `key` names it for the selector of the page."""
    record, rewards = sample["record"], sample["rewards"]
    z = group_z_scores(rewards)
    best = sorted(
        range(len(sample["completions"])), key=lambda g: -_overall(sample["advantages"][g])
    )
    completions = [
        _completion(
            number,
            sample["completions"][number],
            mark_items(sample["completions"][number], record, oracle),
            {name: column[number] for name, column in rewards.items()},
            z[number],
            sample["advantages"][number],
            opened=place == 0,
        )
        for place, number in enumerate(best)
    ]
    return (
        f'<article class="sample" data-sample="{escape(key)}">{_conversation(record)}'
        f"{''.join(completions)}</article>"
    )


def _conversation(record: Mapping[str, Any]) -> str:
    facts = {
        "sensitive to": "; ".join(active_traits(record)) or "nothing",
        "said": "outright" if record.get("said_outright") else "by a hint",
        "liked next": _films(groundtruth(record)),
        "liked, but removed for safety": _films(record.get("removed_groundtruth", ())),
    }
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items()
    )
    return f'<pre class="prompt">{escape(prompt_text(record))}</pre><dl>{rows}</dl>'


def _films(films: Sequence[Sequence[Any]]) -> str:
    return ", ".join(f"{title} ({year})" for title, year in films) or "none"


def _completion(
    number: int,
    text: str,
    items: Sequence[Item],
    rewards: Mapping[str, Any],
    z: np.ndarray,
    advantage: Any,
    *,
    opened: bool,
) -> str:
    hits, violations = (sum(mark in i.marks for i in items) for mark in ("hit", "violation"))
    summary = (
        f"completion {number + 1}: {len(items)} titles, liked {hits}, violating {violations}, "
        f"advantage {_number(_overall(advantage))}"
    )
    head = "".join(f'<th scope="col">{escape(name)}</th><th scope="col">z</th>' for name in rewards)
    return (
        f"<details{' open' if opened else ''}><summary>{escape(summary)}</summary>"
        f'<pre class="text">{_marked(text, items)}</pre>'
        '<div class="scroll" tabindex="0"><table class="numbers"><thead><tr>'
        f'<th scope="col">rank</th>{head}<th scope="col">advantage</th></tr></thead>'
        f"<tbody>{_reward_rows(items, rewards, z, advantage)}</tbody></table></div></details>"
    )


def _reward_rows(
    items: Sequence[Item], rewards: Mapping[str, Any], z: np.ndarray, advantage: Any
) -> str:
    if z.ndim == 1:
        cells = "".join(
            f"<td>{_number(value)}</td><td>{_number(float(score))}</td>"
            for value, score in zip(rewards.values(), z)
        )
        return f'<tr><th scope="row">answer</th>{cells}<td>{_number(_overall(advantage))}</td></tr>'
    rows = []
    for rank in range(z.shape[1]):
        name = f"{rank + 1}" if rank >= len(items) else f"{rank + 1} {items[rank].film.title}"
        cells = "".join(
            f"<td>{_number(values[rank])}</td><td>{_number(float(scores[rank]))}</td>"
            for values, scores in zip(rewards.values(), z)
        )
        here = advantage[rank] if isinstance(advantage, Sequence) else advantage
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}<td>{_number(here)}</td></tr>')
    return "".join(rows)


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
    return "none" if value is None else f"{value:+.3f}" if value else "0"


__all__ = ["MARKS", "Item", "group_z_scores", "mark_items", "sample_article"]
