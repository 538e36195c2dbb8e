"""Training and test prompts apart: by text, by XSTest's types, and by clusters.

DCR (arXiv 2603.03323) trains on all safe prompts of XSTest and tests on them again, against toxic
prompts in another style. Here types are held out, and XSTest's own contrast prompts (same word,
same style) can be the toxic ones.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from experiments.dcr.data.formats import XSTEST_CONTRASTS
from experiments.dcr.data.normalized import normalized
from experiments.dcr.data.prompts import SEEMING, TOXIC, SafetyPrompt
from gdpo_jax.errors import UserError

__all__ = [
    "Negatives",
    "Parted",
    "Refinement",
    "draw_parts",
    "hold_out_types",
    "keep_apart",
    "pool",
    "refinement_prompts",
    "require_apart",
]

Negatives = Literal["contrast", "dialogues", "both"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parted:
    """Prompts that stayed, and how many went by the pair of sources that share their text.

    A pair is (source that keeps the text, source that loses it).
    """

    prompts: tuple[SafetyPrompt, ...]
    removed: Mapping[tuple[str, str], int]


def pool(prompts: Sequence[SafetyPrompt]) -> Parted:
    """The prompts without those whose text an earlier one has.

    Raises UserError where two prompts of one text are of different kinds.
    """
    first: dict[str, SafetyPrompt] = {}
    removed: Counter[tuple[str, str]] = Counter()
    for prompt in prompts:
        same = first.setdefault(normalized(prompt.text), prompt)
        if same.kind != prompt.kind:
            raise UserError(
                f"{same.id} is {same.kind} and {prompt.id}, the same text, is {prompt.kind}; leave "
                "one of them out"
            )
        if same is not prompt:
            removed[same.source, prompt.source] += 1
    return Parted(prompts=tuple(first.values()), removed=dict(removed))


def keep_apart(train: Sequence[SafetyPrompt], test: Sequence[SafetyPrompt]) -> Parted:
    """The training prompts without those whose text is in the test, and how many went."""
    tested = {normalized(prompt.text): prompt.source for prompt in test}
    kept, removed = [], Counter()
    for prompt in train:
        source = tested.get(normalized(prompt.text))
        if source is None:
            kept.append(prompt)
        else:
            removed[source, prompt.source] += 1
    return Parted(prompts=tuple(kept), removed=dict(removed))


def require_apart(train: Sequence[SafetyPrompt], test: Sequence[SafetyPrompt]) -> None:
    """Raises UserError where a text is both in training and in test, case and signs aside."""
    if removed := keep_apart(train, test).removed:
        pairs = ", ".join(f"{count} of {a} in {b}" for (a, b), count in removed.items())
        raise UserError(f"prompts of the test are in training ({pairs}); remove them there")


def hold_out_types(
    prompts: Sequence[SafetyPrompt], held_out: Sequence[str]
) -> tuple[tuple[SafetyPrompt, ...], tuple[SafetyPrompt, ...]]:
    """XSTest's prompts of the other types, and of the held-out types; contrast prompts go along.

    held_out: names of safe types. Types that share their contrast prompts are held out together.
    Raises UserError for an unknown type, for one without its fellow, and where nothing is left.
    """
    for name in held_out:
        if name not in XSTEST_CONTRASTS:
            raise UserError(f"no type {name!r}; there are {', '.join(XSTEST_CONTRASTS)}")
    contrasts = {XSTEST_CONTRASTS[name] for name in held_out}
    together = [name for name, contrast in XSTEST_CONTRASTS.items() if contrast in contrasts]
    if missing := sorted(set(together) - set(held_out)):
        raise UserError(f"hold out {', '.join(missing)} as well: they share contrast prompts")
    tested = {*held_out, *contrasts}
    test = tuple(prompt for prompt in prompts if prompt.type in tested)
    train = tuple(prompt for prompt in prompts if prompt.type not in tested)
    if not train or not test:
        which = "training" if not train else "test"
        raise UserError(f"no prompts are left for {which}; hold out some of the types, not all")
    return train, test


def draw_parts(
    prompts: Sequence[SafetyPrompt], sizes: Mapping[str, int], *, seed: int = 0
) -> dict[str, tuple[SafetyPrompt, ...]]:
    """Random parts of given sizes by name, of which no two share a cluster.

    One prompt of a cluster is drawn, the first. Raises UserError where there are too few clusters.
    """
    first: dict[str, SafetyPrompt] = {}
    for prompt in prompts:
        first.setdefault(prompt.cluster, prompt)
    wanted = sum(sizes.values())
    if wanted > len(first) or any(size < 0 for size in sizes.values()):
        raise UserError(f"{dict(sizes)} of {len(first)} different prompts; ask for fewer")
    order = np.random.default_rng(seed).permutation(len(first))
    shuffled = [list(first.values())[i] for i in order]
    ends = np.cumsum([0, *sizes.values()])
    return {
        name: tuple(shuffled[start:end])
        for name, start, end in zip(sizes, ends[:-1], ends[1:], strict=True)
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refinement:
    """The two subsets that are set apart in stage one, and what tests it."""

    seeming: tuple[SafetyPrompt, ...]
    toxic: tuple[SafetyPrompt, ...]
    test: tuple[SafetyPrompt, ...]  # XSTest's held-out types, safe and contrast
    removed: Mapping[tuple[str, str], int]  # from training, because the test has them
    shared_words: int  # prompts of the test whose focus word is in training too


def refinement_prompts(
    xstest: Sequence[SafetyPrompt],
    held_out: Sequence[str],
    *,
    negatives: Negatives = "contrast",
    dialogues: Sequence[SafetyPrompt] = (),
    count: int = 500,
    seed: int = 0,
) -> Refinement:
    """Seemingly toxic and toxic prompts of stage one (arXiv 2603.03323, section 4).

    negatives: XSTest's contrast prompts of the training types, `count` first turns of HH-RLHF's
    dialogues as in the paper, or both. Raises UserError as `hold_out_types` and `draw_parts`, and
    for dialogues that are missing or would not be used.
    """
    if negatives not in get_args(Negatives):
        raise UserError(f"no negatives {negatives!r}; there are {', '.join(get_args(Negatives))}")
    if (negatives == "contrast") == bool(dialogues):
        hint = "leave the dialogues out" if dialogues else "give dialogues of HH-RLHF"
        raise UserError(f"negatives {negatives!r}: {hint}")
    train, test = hold_out_types(xstest, held_out)
    toxic = [p for p in train if p.kind == TOXIC] if negatives != "dialogues" else []
    if dialogues:
        toxic += draw_parts(dialogues, {"toxic": count}, seed=seed)["toxic"]
    seeming = [p for p in train if p.kind == SEEMING]
    parted = keep_apart([*seeming, *toxic], test)
    words = {prompt.cluster for prompt in parted.prompts}
    return Refinement(
        seeming=tuple(p for p in parted.prompts if p.kind == SEEMING),
        toxic=tuple(p for p in parted.prompts if p.kind == TOXIC),
        test=test,
        removed=parted.removed,
        shared_words=sum(prompt.cluster in words for prompt in test),
    )
