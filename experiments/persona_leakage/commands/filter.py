"""`filter`: a log of conversations without the phrases that are one user's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from rich import box
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from experiments.persona_leakage.data.logs import read_logs, write_logs
from experiments.persona_leakage.data.users import Conversation
from experiments.persona_leakage.learning.filters import (
    Removal,
    phrase_curve,
    with_answers,
    without_own_phrases,
)
from experiments.persona_leakage.learning.phrases import PhraseRule
from gdpo_jax.errors import UserError

__all__ = ["filter_log"]

_USUAL = PhraseRule()
_COLUMNS = ("answers", "gone", "changed", "spans", "words gone")


def filter_log(
    log: Positional[Path],
    out: Path,
    rule: Annotated[PhraseRule, arg(name="")] = _USUAL,
    curve: tuple[int, ...] = (1, 2, 3, 5, 10),
) -> None:
    """Write a log of conversations without the phrases that the assistant says to one user alone.

    Answers are compared across users, whose requests stay as they are. An answer of which nothing
    is left goes with its request. What is taken is printed, also for other numbers of repeats.

    Args:
        log: JSON Lines, a conversation a row (data/logs.py).
        out: file to write.
        curve: numbers of --repeats to try.
    """
    if wrong := [least for least in curve if least < 1]:
        raise UserError(f"--curve {wrong[0]}: a phrase is repeated at least once")
    if out.resolve() == log.resolve():
        raise UserError(f"--out {out} is the log itself; give another file")
    found = read_logs(log)
    _check_users(log, found)
    filtered = without_own_phrases(found, rule)
    kept = with_answers(found, filtered.answers)
    tried = phrase_curve(found, rule, repeats=sorted({*curve} - {rule.repeats}))
    _show(dict(sorted({**tried, rule.repeats: filtered.removal}.items())))
    if not kept:
        raise UserError(
            f"nothing of {log} is left: each sentence has words that no other user's answers have; "
            "raise --repeats or --others, or give more users (nothing was written)"
        )
    write_logs(out, kept)
    removal = filtered.removal
    _say(
        f"{out}: {len(kept)} of {len(found)} conversations, without {removal.gone} of "
        f"{removal.answers} answers and {removal.words:.1%} of their words; {removal.changed} "
        f"answers lost some of theirs, and {removal.spans} places had a user's own phrase"
    )
    if rule.repeats > 1:
        _say(f"what fewer than {rule.repeats} answers to a user say is left, secrets as well")


def _check_users(log: Path, found: Sequence[Conversation]) -> None:
    if len(users := {conversation.user for conversation in found}) < 2:
        who = f"{log} is of user {next(iter(users))!r} alone" if users else f"{log} is of nobody"
        raise UserError(f"{who}; what is one user's own is seen beside others: give two at least")


def _show(found: Mapping[int, Removal]) -> None:
    table = Table("repeats", box=box.SIMPLE_HEAD)
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for repeats, removal in found.items():
        counts = (removal.answers, removal.gone, removal.changed, removal.spans)
        table.add_row(str(repeats), *map(str, counts), f"{removal.words:.3f}")
    Console().print(table)


def _say(line: str) -> None:
    Console(soft_wrap=True).print(line, highlight=False, markup=False)
