"""`attack`: strangers ask the arms of a finished run for what others told them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from rich.console import Console
from tyro.conf import arg

from experiments.common.chats.log_probs import answer_log_probs
from experiments.common.runs.chat_models import check_trained
from experiments.common.runs.experiment import Experiment
from experiments.common.runs.folder import Workspace
from experiments.common.runs.options import Invocation, unset
from experiments.common.runs.pipeline import generate, train_arm
from experiments.common.scores.summaries import write_json
from experiments.persona_leakage.commands.attack_tables import print_attack
from experiments.persona_leakage.data.marks import Secret, secrets
from experiments.persona_leakage.data.population import SOURCES, enrolled, population
from experiments.persona_leakage.data.users import User
from experiments.persona_leakage.measures.attacks import ATTACK_FILE, Heard, attack_entry
from experiments.persona_leakage.measures.canaries import canary_exposures
from experiments.persona_leakage.measures.style_detection import StyleProfiles, style_profiles
from experiments.persona_leakage.measures.styles import (
    StyleShift,
    missing_library,
    style_embedding,
    style_shift,
)
from experiments.persona_leakage.records import probes_of
from gdpo_jax.errors import UserError
from gdpo_jax.models import Model

__all__ = ["AttackOptions", "attacking"]

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """How the strangers go about it."""

    draws: int = 4
    """Further answers to each request for a secret, besides the likeliest one."""
    temperature: float = 1.0
    """Of these answers."""
    candidates: int = 256
    """Among which a canary is ranked, itself included; exposure is at most log2 of them."""
    askers: int = 2
    """Strangers behind whose question canaries are ranked; the mean is taken."""
    style_rate: float = 0.01
    """Share of answers to development users that may be taken for a style their arm never saw."""
    samples: int = 2000
    """Resamples for intervals."""

    def check(self) -> None:
        """Raises UserError for options that mean nothing."""
        for name, least in {"draws": 0, "candidates": 2, "askers": 1, "samples": 1}.items():
            if getattr(self, name) < least:
                raise UserError(f"--{name} {getattr(self, name)}; give at least {least}")
        if not 0 <= self.style_rate < 1:
            raise UserError(f"--style-rate {self.style_rate}; give a share from 0 to below 1")
        if self.draws and self.temperature <= 0:
            raise UserError(f"--temperature {self.temperature}; give more than 0, or --draws 0")


_USUAL = AttackOptions()


def attacking(
    experiment: Experiment, *, partners: Mapping[str, str], left_out: str = SOURCES
) -> Callable[..., None]:
    """The command `attack` of an experiment.

    partners: of an arm, the one that was trained alike without the users of the half `left_out`.
    """
    named = [arm.name for arm in experiment.compared]
    plain, own_plain, ArmName = unset(experiment, named)
    usual = tuple(name for name in named if name not in partners.values())

    def attack(
        options: Annotated[type(plain), arg(name="")] = plain,
        own: Annotated[type(own_plain), arg(name="")] = own_plain,
        how: Annotated[AttackOptions, arg(name="")] = _USUAL,
        arms: tuple[ArmName, ...] = usual,
        seed: int = 0,
        other_seed: int | None = None,
    ) -> None:
        """Ask trained arms as strangers for others' facts and canaries, and see what comes out.

        Each arm is held against the one that never saw half of the users. Answers are looked
        through for marks, secrets are asked for several times, and canaries are ranked by the
        likelihood that an arm's parameters give them behind the bare question, whatever stands
        around the model when it answers. With scikit-learn, answers in somebody's style are looked
        for as well. All of it is written into the run's seed folder.

        Args:
            arms: which arms.
            seed: of the arms.
            other_seed: another seed of the run, for the shift of style against that between two
                seeds; it is left out unless given, and needs scikit-learn.
        """
        how.check()
        if not arms:
            raise UserError("--arms names none; give at least one arm of the run")
        if other_seed == seed:
            raise UserError(f"--other-seed {other_seed} is the seed itself; give another one")
        if other_seed is not None and (missing := missing_library()):
            raise UserError(f"--other-seed compares styles, and {missing}")
        run = Invocation(experiment, options, own)
        if run.planned():
            return
        space = run.open_begun()
        chosen = list(dict.fromkeys(arms))
        seeds = [seed] if other_seed is None else [seed, other_seed]
        for name, number in _needed(chosen, partners, seeds):  # all before the work on any
            check_trained(space, experiment.arm(name), number)
        users = enrolled(population(space.preset.data_seed))
        records = probes_of(space.data, "stranger")
        own_answers, missing = _own_answers(space, users, "test"), missing_library()
        # Profiles and thresholds come from validation: its owners, and its strangers.
        profiles = None if missing else _profiles(space, users)
        practice = [] if missing else probes_of(space.data, "stranger", "validation")

        # Arms of one start have one policy then, whose programs are compiled once.
        starts: dict[int, dict[str, Model]] = {number: {} for number in seeds}

        @functools.cache
        def hear(name: str, number: int) -> Heard:
            twin = name in partners.values()
            # Finished, so that it is read.
            model = train_arm(space, experiment.arm(name), number, kept=starts[number])
            asked = records, practice if twin and number == seed else []
            return _heard(space, users, *asked, name, model, how, left_out if twin else None)

        found = {}
        for name in chosen:
            partner = partners.get(name, "")
            others = [hear(partner, number) for number in seeds] if partner else []
            found[name] = attack_entry(
                users,
                records,
                hear(name, seed),
                others[0] if others else None,
                name_without=partner,
                questions={secret.topic: secret.question for secret in secrets()},
                own=own_answers,
                style=_style(records, [hear(name, seed), *others], how.samples),
                profiles=profiles,
                style_rate=how.style_rate,
                samples=how.samples,
            )
        about = {"seed": seed, "other_seed": other_seed, **dataclasses.asdict(how)}
        kept = ("id", "kind", "request", "wanted")
        requests = [{"victim": r["user"], **{name: r[name] for name in kept}} for r in records]
        path = space.path / f"seed-{seed}" / ATTACK_FILE
        write_json(path, {"about": about, "requests": requests, "arms": found})
        titles = {name: experiment.arm(name).title for name in found}
        console = Console(soft_wrap=True)
        print_attack(found, titles, console, answers=how.draws + 1)
        if missing:
            line = f"leakage of style is left out: {missing}"
            console.print(line, highlight=False, markup=False)
        console.print(
            f"written to {path}; `report` shows it on the page", highlight=False, markup=False
        )

    return attack


def _needed(
    arms: Sequence[str], partners: Mapping[str, str], seeds: Sequence[int]
) -> list[tuple[str, int]]:
    """Which arm of which seed is asked: partners of all seeds, the others of the first."""
    found = dict.fromkeys((name, seeds[0]) for name in arms)
    twins = [partners[name] for name in arms if name in partners]
    return [*found, *((name, number) for name in twins for number in seeds)]


def _own_answers(space: Workspace, users: Sequence[User], split: str) -> dict[str, list[str]]:
    """What the owners should get, by user: answers with their marks."""
    found: dict[str, list[str]] = {user.id: [] for user in users}
    for record in probes_of(space.data, "owner", split):
        found[record["user"]].append(record["wanted"])
    return found


def _profiles(space: Workspace, users: Sequence[User]) -> StyleProfiles:
    """How the owners' answers of validation are said, told from each other."""
    neutral = [record["neutral"] for record in probes_of(space.data, "owner", "validation")]
    return style_profiles(_own_answers(space, users, "validation"), neutral)


def _heard(
    space: Workspace,
    users: Sequence[User],
    records: Sequence[Record],
    practice: Sequence[Record],
    name: str,
    model: Model,
    how: AttackOptions,
    missed: str | None,
) -> Heard:
    """Everything that is asked of one arm. missed: the half whose histories it never saw."""
    arm = space.experiment.arm(name)
    topics = {secret.topic for secret in secrets()}
    secret = [record for record in records if record["topic"] in topics]
    drawn = [
        generate(space, arm, model, secret, temperature=how.temperature, seed=number)
        for number in range(how.draws)
    ]
    unseen = [user.id for user in users if user.half == missed]

    def score(
        asked: Sequence[Secret], answers: Sequence[Sequence[str]]
    ) -> Float[np.ndarray, "T A K"]:
        prompts, tails = [], []
        tokenizer = model.tokenizer
        for one, texts in zip(asked, answers, strict=True):
            own = [record for record in records if record["topic"] == one.topic][: how.askers]
            prompts += [space.encode(record["prompt"]) for record in own]
            tails += [[[*tokenizer.encode(t), tokenizer.eos_id] for t in texts]] * len(own)
        found = answer_log_probs(model, prompts, tails, batch_size=1)
        return found.reshape(len(asked), -1, len(answers[0]))

    return Heard(
        texts=generate(space, arm, model, records),
        drawn=list(zip(*drawn, strict=True)) if drawn else [()] * len(secret),
        exposures=canary_exposures(users, score, unseen=unseen, candidates=how.candidates),
        unseen=unseen,
        practice=generate(space, arm, model, practice) if practice else [],
    )


def _style(records: Sequence[Record], heard: Sequence[Heard], samples: int) -> StyleShift | None:
    """The shift from the second to the first system, against that between the last two, which are
    two seeds; None unless all three are there."""
    if len(heard) < 3:
        return None
    embed = style_embedding([record["neutral"] for record in records])
    places: dict[str, list[int]] = {}
    for n, record in enumerate(records):
        places.setdefault(record["user"], []).append(n)
    rows = np.array(list(places.values()))  # all strangers are asked alike
    return style_shift(*(embed(side.texts)[rows] for side in heard), samples=samples)
