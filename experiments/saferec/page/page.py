"""What the page of SafeRec has besides the sections that all experiments share."""

import functools
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from experiments.common.files.tfds_folder import find_config
from experiments.common.report.browser import ShowSample, sample_browser
from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import differences, quiet, split, trade_off
from experiments.common.report.report import LAST
from experiments.common.report.runs import Run, Section
from experiments.common.report.tables import group_table
from experiments.saferec.data.dataset import load_table
from experiments.saferec.oracle.catalogue import Oracle, OracleOptions
from experiments.saferec.oracle.conventions import FIXED, OFFICIAL, Convention
from experiments.saferec.page.samples import show_group


def samples(runs: Sequence[Run]) -> Markup:
    """A section: the kept groups, marked as the training of their run saw them."""
    oracles: dict[str, Oracle | None] = {}

    def open_show(run: Run) -> ShowSample:
        oracle = oracles[run.label] = _oracle(run)
        return functools.partial(show_group, oracle=oracle, convention=_convention(run))

    shown = sample_browser(runs, open_show)
    bare = [label or "The run" for label, oracle in oracles.items() if oracle is None]
    about = quiet(
        "Groups that the first seed sampled while training, best advantage first. z is a reward's "
        "z-score inside its group, and the advantage is the one the update used."
    )
    missing = quiet(
        f"{', '.join(bare)}: the data set was not found, neither where the run says nor beside it, "
        "so only the ground truth that was removed for safety is marked as violating."
    )
    return shown and joined([about, missing if bare else "", shown])


def _oracle(run: Run) -> Oracle | None:
    """The oracle that the run was trained with: of its data, under its convention and options.

    None if its data are not there any more. Folders of before options were stored have the usual
    ones.
    """
    if run.data_dir is None or find_config(run.data_dir, "conversations") is None:
        return None
    options = OracleOptions(**(run.preset.get("oracle") or {}))
    return load_table(run.data_dir).oracle(convention=_convention(run), options=options)


def _convention(run: Run) -> Convention:
    """Of the run's preset; fixed where the folder has none."""
    return FIXED if run.preset.get("official") is None else OFFICIAL


SECTIONS: Mapping[str, Section] = {
    "Trade-off": trade_off("svr@10", "recall@10"),
    "Differences": differences,
    "Said or hinted": split(
        "disclosure",
        ("recall@10", "svr@10"),
        note="In some conversations the user names the sensitivity, in the others somebody's life "
        "only hints at it.",
    ),
    "Sensitivities": group_table("trait", "svr@10", note="Users are those with the sensitivity."),
    **LAST,
    "Samples": samples,
}

__all__ = ["SECTIONS"]
