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
from gdpo_jax.errors import UserError


def samples(runs: Sequence[Run]) -> Markup:
    """A section: the kept groups, marked as the training of their run saw them."""
    missing: dict[str, str] = {}  # run -> why its data cannot be read

    def open_show(run: Run) -> ShowSample:
        oracle = None
        try:
            oracle = _oracle(run)
        except UserError as error:
            # The marks want it, and nothing else on the page.
            missing[run.label or "The run"] = str(error)
        return functools.partial(show_group, oracle=oracle, convention=_convention(run))

    shown = sample_browser(runs, open_show)
    about = quiet(
        "Groups that the first seed sampled while training, best advantage first. z is a reward's "
        "z-score inside its group, and the advantage is the one the update used."
    )
    notes = [
        quiet(
            f"{run}: {reason}. Only the ground truth that was removed for safety is marked as "
            "violating."
        )
        for run, reason in missing.items()
    ]
    return shown and joined([about, *notes, shown])


def _oracle(run: Run) -> Oracle:
    """The oracle that the run was trained with: of its data, under its convention and options.

    Folders of before options were stored have the usual ones. Raises UserError if the data are not
    there any more or cannot be read.
    """
    if run.data_dir is None or find_config(run.data_dir, "conversations") is None:
        raise UserError("the data set was not found, neither where the run says nor beside it")
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
