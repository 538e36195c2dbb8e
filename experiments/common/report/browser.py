"""A browser of items (sampled groups, dialogues, pairs): one at a time, by buttons or arrow keys.

Several browsers stand on one page; the ids of each begin with its own prefix.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from experiments.common.report.rendering import render
from experiments.common.report.runs import Run


@dataclasses.dataclass(frozen=True)
class Item:
    """One entry of the chooser: `title` under the heading `group`, and what it shows."""

    group: str
    title: str
    body: Markup


_TABS = Markup("groups, <kbd>↑</kbd> <kbd>↓</kbd> completions")

# (a kept sample, what ids in it begin with) -> what the page shows of it
ShowSample = Callable[[Mapping[str, Any], str], Markup]


def browser(
    items: Sequence[Item], *, prefix: str, label: str = "Item", keys: str = "items"
) -> Markup:
    """The items, to be leafed through in their order; empty without any.

    Items of one group stand next to each other. `prefix` is of no other browser of the page.
    """
    if not items:
        return Markup("")
    keyed = [{"key": f"{prefix}-{n}", **vars(item)} for n, item in enumerate(items)]
    groups = [(g, list(found)) for g, found in itertools.groupby(keyed, lambda one: one["group"])]
    return render("browser.html", prefix=prefix, label=label, keys=keys, groups=groups)


def sample_browser(
    runs: Sequence[Run], open_show: Callable[[Run], ShowSample], *, prefix: str = "sample"
) -> Markup:
    """The groups of completions that the first seed of every arm kept while training.

    `open_show` gives the function that shows a sample of a run; it is asked for once a run, and
    only if the run kept any.
    """
    items = []
    for run in runs:
        show = None
        for arm in run.arms:
            title = run.name(arm.result.title)
            for seed, kept in list(arm.samples.items())[:1]:
                for sample in kept:
                    show = show or open_show(run)
                    body = show(sample, f"{prefix}-{len(items)}")
                    items.append(
                        Item(f"{title}, seed {seed}", f"{title}, step {sample['step']}", body)
                    )
    return browser(items, prefix=prefix, label="Group", keys=_TABS)


__all__ = ["Item", "ShowSample", "browser", "sample_browser"]
