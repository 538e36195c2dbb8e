"""A browser of answers: a prompt, what every arm says to it, and what it is judged."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from experiments.common.files.json_rows import read_rows
from experiments.common.judges.refusals import (
    FULL_COMPLIANCE,
    FULL_REFUSAL,
    PARTIAL_REFUSAL,
    judge_refusal,
)
from experiments.common.report.browser import Item, browser
from experiments.common.report.comparisons import quiet
from experiments.common.report.rendering import render
from experiments.common.report.runs import Run
from experiments.dcr.data.instructions import follows, is_request
from experiments.dcr.data.prompts import TOXIC, SafetyPrompt, from_record
from experiments.dcr.data.tfds_builder import load_prompts, split_sizes
from gdpo_jax.errors import UserError

__all__ = ["answers"]

TEMPLATES = Path(__file__).parent / "templates"
_MOST = 60  # prompts of one run
_WORDS = {FULL_COMPLIANCE: "answered", FULL_REFUSAL: "refused", PARTIAL_REFUSAL: "partly refused"}
_SIGNS = {True: "✓", False: "✕", None: "?"}
_CSS = {True: "hit", False: "violation", None: "unknown"}


@dataclasses.dataclass(frozen=True)
class _Shown:
    """An arm's answer with a word on it; good: None where it was not judged."""

    arm: str
    text: str
    word: str
    good: bool | None
    reason: str = ""


def answers(runs: Sequence[Run]) -> Markup:
    """A section: answers of the first seed, of each kind of prompt those first on which arms
    differ."""
    items: list[Item] = []
    notes = []
    for run in runs:
        try:
            found = _answered(run)
        except UserError as error:
            # The answers want these files, and nothing else on the page.
            notes.append(quiet(f"{run.label or 'The run'}: {error}."))
            continue
        for prompt, shown in _chosen(found):
            signs = "".join(_SIGNS[one.good] for one in shown)
            body = _body(prompt, shown, f"answer-{len(items)}")
            items.append(Item(run.name(prompt.kind), f"{run.name(prompt.id)} {signs}", body))
    about = quiet(
        "Answers of the first seed, those first on which arms differ. A sign is a tick where a "
        "toxic prompt is refused, another one answered, and a request followed."
    )
    shown = browser(items, prefix="answers", label="Prompt", keys="prompts")
    return Markup("").join([*notes, *([about, shown] if shown else [])])


def _answered(run: Run) -> list[tuple[SafetyPrompt, list[_Shown]]]:
    """Raises UserError where there are answers, and their prompts cannot be read."""
    found: dict[str, list[_Shown]] = {}
    prompts: dict[str, SafetyPrompt] = {}
    for arm in run.arms:
        folder = run.path / f"seed-{arm.result.seeds[0]}" / arm.result.name
        if not (folder / "outputs.jsonl").is_file():
            continue
        for row in read_rows(folder / "outputs.jsonl"):
            name = row.get("sample_id")
            if isinstance(row.get("prompt"), dict):  # of an evaluation
                prompts.setdefault(name, from_record(row["prompt"]))
            elif not prompts:
                prompts = _test_prompts(run)
            if name in prompts:
                shown = _shown(arm.result.title, prompts[name], row)
                found.setdefault(name, []).append(shown)
    return [(prompts[name], shown) for name, shown in found.items()]


def _test_prompts(run: Run) -> dict[str, SafetyPrompt]:
    if run.data_dir is None:
        raise UserError("the data set was not found, neither where the run says nor beside it")
    places = [(config, "test") for config in ("generated", "instructions")]
    if run.preset.get("published"):
        places += [("published", name) for name in split_sizes(run.data_dir, "published")]
    return {p.id: p for config, split in places for p in load_prompts(run.data_dir, config, split)}


def _shown(arm: str, prompt: SafetyPrompt, row: Mapping[str, Any]) -> _Shown:
    text = str(row.get("text", ""))
    if row.get("failed"):
        return _Shown(arm, text, "failed", None, str(row["failed"]))
    if is_request(prompt):
        right = follows(prompt, text)
        return _Shown(arm, text, "followed" if right else "not followed", right)
    if "label" in row:
        label, reason = row["label"], str(row.get("reason", ""))
    else:
        verdict = judge_refusal(prompt.text, text)
        label, reason = verdict.label, verdict.reason
    if label not in _WORDS:
        return _Shown(arm, text, "not judged", None, reason)
    wanted = FULL_REFUSAL if prompt.kind == TOXIC else FULL_COMPLIANCE
    return _Shown(arm, text, _WORDS[label], label == wanted, reason)


def _chosen(
    found: Sequence[tuple[SafetyPrompt, list[_Shown]]],
) -> list[tuple[SafetyPrompt, list[_Shown]]]:
    """As many of every kind, those first on which arms differ."""
    kinds: dict[str, list[tuple[SafetyPrompt, list[_Shown]]]] = {}
    for one in found:
        kinds.setdefault(one[0].kind, []).append(one)
    chosen = []
    for members in kinds.values():
        members.sort(key=lambda one: len({shown.good for shown in one[1]}) < 2)
        chosen += members[: _MOST // len(kinds)]
    return chosen


def _body(prompt: SafetyPrompt, shown: Sequence[_Shown], prefix: str) -> Markup:
    arms = [
        {
            "id": f"{prefix}-{n}",
            "title": one.arm,
            "word": one.word,
            "sign": _SIGNS[one.good],
            "css": _CSS[one.good],
            "text": one.text,
            "reason": one.reason,
        }
        for n, one in enumerate(shown)
    ]
    return render(
        "answers.html",
        folder=TEMPLATES,
        kind=prompt.kind,
        text=prompt.text,
        source=prompt.source,
        type=prompt.type,
        good=prompt.answer,
        arms=arms,
    )
