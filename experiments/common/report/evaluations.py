"""The end of an evaluation command: tables, results.json and the page of what its folder has."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from experiments.common.chats.model import Bill
from experiments.common.report.report import report
from experiments.common.report.runs import Section, load_runs
from experiments.common.scores.metric import Metric
from experiments.common.scores.results import collect, seed_folders
from experiments.common.scores.results_file import write_results
from experiments.common.scores.results_tables import print_table
from gdpo_jax.errors import UserError

__all__ = ["check_name", "conclude", "scored_names", "tell_failures", "told_bill"]


def conclude(
    title: str,
    out: Path,
    console: Console,
    *,
    arms: Sequence[tuple[str, str]],
    metrics: tuple[Metric, ...],
    sections: Mapping[str, Section],
    baseline: str | None,
    bootstrap: int,
    level: float,
) -> None:
    """Prints the tables of OUT/seed-*/NAME/scores.json, and writes OUT/results.json and the page.

    arms: (name, title) in the order of tables. Raises UserError as `collect`.
    """
    results = collect(
        out, arms=arms, metrics=metrics, baseline=baseline, bootstrap=bootstrap, level=level
    )
    write_results(results, out / "results.json")
    print_table(results, console)
    runs = load_runs([out], [results], arms=[name for name, _ in arms], claims=())
    page = report(title, runs, sections, out / "report.html")
    console.print(f"report: {page}", highlight=False, markup=False)


def scored_names(out: Path) -> tuple[str, ...]:
    """The names of all that was scored below a folder, in order of seed and name."""
    found = [
        path.parent.name
        for _, folder in seed_folders(out)
        for path in sorted(folder.glob("*/scores.json"))
    ]
    return tuple(dict.fromkeys(found))


def check_name(name: str) -> None:
    """Raises UserError for a name that cannot be a folder's."""
    if not name or Path(name).name != name or name.startswith("."):
        raise UserError(f"--name {name!r} cannot be a folder's; give a word without slashes")


def told_bill(bill: Bill) -> str:
    """How often a model was asked, in words."""
    line = f"asked {bill.asked} times"
    line += f", {bill.cached} known before" if bill.cached else ""
    return line + (f", for {bill.cost:g}" if bill.cost else "")


def tell_failures(failures: Mapping[str, str], console: Console) -> None:
    """Prints how many have no answer or no verdict, and why the first one has none, if any."""
    if not failures:
        return
    first, why = next(iter(failures.items()))
    console.print(
        f"{len(failures)} without an answer or a verdict, as {first}: {why}; the same command asks "
        "for them again",
        style="yellow",
        highlight=False,
        markup=False,
    )
