"""`evaluate`: a model answers dialogues in several ways, and a judge reads the answers.

OUT/seed-SEED/WAY/ has the dialogues, verdicts and scores of one way, so that a way is to tables and
pages what an arm of a run is. The same command goes on after a stop.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from rich.console import Console
from tyro.conf import arg

from experiments.common.chats.model import Bill, Limits
from experiments.common.files.json_rows import read_json
from experiments.common.report.evaluations import conclude
from experiments.common.runs.chat_models import ModelOptions, check_draws, open_chat_model
from experiments.common.runs.experiment import Experiment
from experiments.common.scores.results import seed_folders
from experiments.curate.commands.judge_options import JudgeOptions, open_judge
from experiments.curate.commands.selection import Selection, choose
from experiments.curate.dialogues import LIMITS
from experiments.curate.evaluation import Evaluation, check_folder
from experiments.curate.evaluation import evaluate as hold_and_judge
from experiments.curate.metrics import METRICS
from experiments.curate.mirror.prompts import BRIEF
from experiments.curate.mirror.thinking import Thinking
from experiments.curate.mirror.way import Mirror
from experiments.curate.ways import Facts, Plain, Way, guided, reminder
from gdpo_jax.errors import UserError

__all__ = ["TITLES", "WayName", "evaluating"]

WayName = Literal[
    "plain",
    "guided",
    "facts",
    "reminder",
    "mirror",
    "mirror-manager",
    "mirror-controller",
    "long-cap",
]
TITLES: Mapping[str, str] = {
    "plain": "plain",
    "guided": "guiding prompt",
    "facts": "fact list",
    "reminder": "reminder",
    "mirror": "MIRROR",
    "mirror-manager": "MIRROR, manager alone",
    "mirror-controller": "MIRROR, controller alone",
    "long-cap": "plain, long answers",
}


def evaluating(experiment: Experiment) -> Callable[..., None]:
    """The command `evaluate` of an experiment, whose trained arms can be the model."""

    def evaluate(
        out: Path = Path("runs/curate-evaluation"),
        options: Annotated[ModelOptions, arg(name="")] = ModelOptions(),
        selection: Annotated[Selection, arg(name="")] = Selection(),
        judge: JudgeOptions = JudgeOptions(),
        ways: tuple[WayName, ...] = get_args(WayName),
        thinking: Thinking = Thinking(),
        brief: bool = False,
        max_new_tokens: int = LIMITS.max_new_tokens,
        long_cap: int = 1024,
        temperature: float = LIMITS.temperature,
        answer_seed: int = 0,
        together: int | None = None,
        baseline: WayName | None = None,
        bootstrap: int = 10_000,
        level: float = 0.95,
    ) -> None:
        """Hold dialogues with a model in several ways, judge the last answers, and compare.

        Args:
            out: folder of the evaluation, whose report.html is written; the same command goes on
                after a stop, and other ways, judges and answer seeds join what is there.
            judge: who judges.
            ways: plain is the model as it is, long-cap the same with longer answers; guided and
                reminder put a sentence beside the user's turn, facts a list of what he said about
                himself; mirror thinks between turns, with one of its two parts in mirror-manager
                and mirror-controller.
            thinking: how MIRROR thinks; the ways choose its parts.
            brief: MIRROR thinks with one-line prompts, for small models.
            max_new_tokens: tokens of an answer, at most, in every way but long-cap.
            long_cap: tokens of an answer in long-cap, at most.
            temperature: of the answers; 0 takes the most likely token each time.
            answer_seed: of the draws; several seeds in one folder are averaged.
            together: requests under way at an endpoint (8 unless given), or conversations that a
                local model answers in one batch (1 unless given).
            baseline: the way that every other one is compared with; the first one there unless
                given.
            bootstrap: resamples for intervals and p values.
            level: of the confidence intervals.
        """
        chosen, judging = choose(selection), open_judge(judge)
        if not ways:
            raise UserError(f"--ways names none; there are {', '.join(TITLES)}")
        check_draws(together=together, answer_seed=answer_seed)
        limits = Limits(max_new_tokens=max_new_tokens, temperature=temperature, seed=answer_seed)
        held = _ways(tuple(dict.fromkeys(ways)), thinking, brief, limits, long_cap)
        model = open_chat_model(options, experiment, together=together)
        # All folders before the first dialogue, which may cost something.
        settings: Mapping = {}
        for name, (way, own) in held.items():
            settings = check_folder(
                out / f"seed-{answer_seed}" / name,
                chosen.cases,
                model=model,
                way=way,
                limits=own,
                given=chosen.given,
            )
        wanted = {
            "cases": settings["cases"],
            "model": settings["model"],
            "judge": dict(judging.identity),
        }
        _check_others(out, wanted, {(answer_seed, name) for name in held})
        console = Console(soft_wrap=True)
        failed = 0
        for name, (way, own) in held.items():
            found = hold_and_judge(
                out / f"seed-{answer_seed}" / name,
                chosen.cases,
                model=model,
                way=way,
                judging=judging,
                limits=own,
                given=chosen.given,
            )
            failed += len(found.failures)
            for line in _told(TITLES[name], found):
                console.print(line, highlight=False, markup=False)
        conclude(
            experiment.title,
            out,
            console,
            arms=tuple(TITLES.items()),
            metrics=METRICS,
            sections=experiment.sections,
            baseline=baseline,
            bootstrap=bootstrap,
            level=level,
        )
        if failed:
            console.print(
                f"{failed} without an answer or a verdict; the same command asks for them again",
                style="yellow",
            )

    return evaluate


def _ways(
    names: Sequence[str], thinking: Thinking, brief: bool, limits: Limits, long_cap: int
) -> dict[str, tuple[Way, Limits]]:
    """The ways with the limits of their answers."""
    mirrors = [name for name in names if name.startswith("mirror")]
    if (brief or thinking != Thinking()) and not mirrors:
        raise UserError("--brief and --thinking belong to MIRROR; add mirror to --ways")
    if thinking.parts != Thinking().parts:
        raise UserError(
            f"--thinking.parts {thinking.parts}: choose the parts by --ways, mirror-manager or "
            "mirror-controller"
        )
    if brief:
        if thinking.prompts != Thinking().prompts:
            raise UserError("--brief and --thinking.prompts both give MIRROR's prompts; give one")
        thinking = dataclasses.replace(thinking, prompts=BRIEF)
    if "long-cap" in names and long_cap <= limits.max_new_tokens:
        raise UserError(
            f"--long-cap {long_cap} is no more than --max-new-tokens {limits.max_new_tokens}; "
            "give more, or leave long-cap out of --ways"
        )
    ways: dict[str, Way] = {
        "plain": Plain(),
        "guided": guided(),
        "facts": Facts(),
        "reminder": reminder(),
        "mirror": Mirror(thinking),
        "mirror-manager": Mirror(dataclasses.replace(thinking, parts="manager")),
        "mirror-controller": Mirror(dataclasses.replace(thinking, parts="controller")),
        "long-cap": Plain(),
    }
    longer = dataclasses.replace(limits, max_new_tokens=max(long_cap, 1))
    return {name: (ways[name], longer if name == "long-cap" else limits) for name in names}


def _check_others(out: Path, wanted: Mapping[str, object], mine: set[tuple[int, str]]) -> None:
    """Raises UserError where ways that stay as they are would not compare with the others."""
    for seed, folder in seed_folders(out):
        for name in TITLES:
            path = folder / name / "settings.json"
            if (seed, name) in mine or not path.is_file():
                continue
            stored = read_json(path)
            for field, value in wanted.items():
                if not isinstance(stored, dict) or stored.get(field) != value:
                    raise UserError(
                        f"{folder / name} was held or judged with other {field}, and stands in the "
                        f"same tables; add {name} to --ways, or give another --out"
                    )


def _told(title: str, found: Evaluation) -> Iterator[str]:
    """Lines on what came of a way."""
    line = f"{title}: {len(found.dialogues)} dialogues, {len(found.verdicts)} verdicts"
    if paid := ", ".join(_cost(part, bill) for part, bill in found.paid.items()):
        line += f"; asked {paid}"
    yield line
    for name, why in list(found.failures.items())[:3]:
        yield f"  {name}: {why}"
    if len(found.failures) > 3:
        yield f"  and {len(found.failures) - 3} more, in scores.json"


def _cost(part: str, bill: Bill) -> str:
    cost = f" for {bill.cost:g}" if bill.cost else ""
    return f"{part} {bill.asked} times{cost}"
