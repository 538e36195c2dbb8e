#!/usr/bin/env python
"""Ends runs of an experiment by SIGKILL, starts the same command again, and compares.

    python scripts/stress_runs.py [--kills 40] [--processes 1] [--seed 0] [--folder FOLDER]
        [--program experiments/saferec/__main__.py] [--preset smoke] [--arms safe-sft safe-gdpo]

One run is left alone. The same command then runs in other folders and gets SIGKILL at moments that
the seed draws: of ten, eight while the folder shows a stage (`aims`), and two on the clock of the
run left alone. Nothing is deleted in between. Each folder must end with the checkpoints, answers,
scores, results and metrics of the run left alone, bit for bit, and with the same report; what tells
times is left out.

--arms: one that imitates, and one that starts from it and follows rewards. --processes 2: two
processes with four CPU devices each (`scripts/local_pod`), one of which gets the
SIGKILL. How long the other one takes to end is told, and what it says.

What was hit, the stack of the process says, which it writes to a file right before. Programs are
compiled with little effort, and kept in the folder for all starts.
"""

import argparse
import collections
import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

ROOT = Path(__file__).resolve().parent.parent
# What the stack of a stage holds, inner calls first; of several the first one counts.
STACKS = {
    "waiting for a checkpoint": r"checkpoints\.py.* in (save|wait)$",
    "data build": r"dataset\.py.* in build_dataset$",
    "tokenizer": r"folder\.py.* in _keep_tokenizer$",
    "rewards": r"scoring\.py.* in score_rollout$",
    "rollout": r"(engine\.py.* in generate|in to_local)\n(.+\n)*.*loop\.py.* in run_policy_opt",
    "update": r"loop\.py.* in run_policy_optimization$",
    "SFT": r"sft\.py.* in run_sft$",
    "scoring": r"pipeline\.py.* in (generate|score_arm)$",
    "report": r"command_line\.py.* in _conclude$",
    "opening": r"command_line\.py.* in (reproduce|train)$",
}
WRITING = "checkpoint write"  # in the background of any of them
CLOCK = "any moment"
LOOK = 0.02  # seconds between looks at a run folder
PATIENCE = 1800.0  # seconds in which a start must end
OTHERS = 300.0  # seconds in which the others must end after one of them is killed
SITE = """
import faulthandler, os, signal
file = open(os.path.join(os.environ["STACKS"], str(os.getpid())), "w")
faulthandler.register(signal.SIGUSR1, file=file, all_threads=False)
"""
COMPARED = ("outputs.jsonl", "scores.json", "samples.jsonl", "results.json")
RUN = ("preset.json", "run.json", "tokenizer.json")
SPEED = r"<figure[^>]*><figcaption>tokens per second.*?</figure>"


def aims(arms: Sequence[str], steps: int) -> dict[str, tuple[str, str]]:
    """How a run folder looks in a stage: patterns of what must be there, and of what must not."""
    first, last = (f"seed-*/{arm}" for arm in (arms[0], arms[-1]))
    return {
        "data build": ("data/.building-*", "run.json"),
        "tokenizer": ("run.json", "tokenizer.json"),
        "SFT": (f"{first}/run.lock", f"{first}/scores.json"),
        "first step of RL": (f"{last}/run.lock", f"{last}/samples.jsonl"),
        "later steps of RL": (f"{last}/samples.jsonl", f"{last}/checkpoints/{steps}"),
        "scoring": (f"{last}/checkpoints/{steps}", f"{last}/scores.json"),
        "report": (f"{last}/scores.json", "report.html"),
        WRITING: ("seed-*/*/checkpoints/*tmp*", "report.html"),
    }


@dataclasses.dataclass
class Start:
    """One start of the command. stage: in which SIGKILL met process `victim`; None: it ended by
    itself. left: seconds until the other processes had ended."""

    code: int
    output: str
    seconds: float
    stage: str | None = None
    victim: int = 0
    left: float = 0.0


class Command:
    """The command in a run folder of its own."""

    def __init__(
        self,
        options: argparse.Namespace,
        name: str,
        *,
        processes: int = 1,
        environment: Mapping[str, str] | None = None,
    ):
        # The page is called after the last part.
        self.folder, self.processes = options.folder / name / "run", processes
        self.name = name
        self._output = options.folder / f"{name}.txt"
        self._stacks = options.folder / "stacks"
        self._aims = aims(options.arms, options.steps)
        self._line = [sys.executable, str(ROOT / options.program), "reproduce"]
        self._line += ["--preset", options.preset, "--run-dir", str(self.folder)]
        self._line += ["--arms", *options.arms]
        if self.processes == 1:
            self._line += ["--processes", "1"]
        else:
            pod = [str(ROOT / "scripts" / "local_pod"), "--processes", str(self.processes)]
            self._line = [*pod, "--", *self._line]
        site = options.folder / "site"
        for folder in (self._stacks, site):
            folder.mkdir(parents=True, exist_ok=True)
        (site / "sitecustomize.py").write_text(SITE)
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]),
            "STACKS": str(self._stacks),
            "JAX_COMPILATION_CACHE_DIR": str(options.folder / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            **(environment or {}),
        }

    def watch(self) -> tuple[Start, dict[str, float]]:
        """Runs it, and notes how long the folder shows a stage each time that it comes there."""
        began, process = time.monotonic(), self._begin()
        seconds, visits = collections.Counter(), collections.Counter()
        shown, last = set(), began
        while process.poll() is None:
            time.sleep(LOOK)
            now, before, shown = time.monotonic(), shown, set(filter(self._shows, self._aims))
            seconds.update(dict.fromkeys(shown, now - last))
            visits.update(shown - before)
            last = now
        stays = {aim: seconds[aim] / visits[aim] for aim in visits}
        return self._ended(process, began), {**stays, CLOCK: (last - began) / 2}

    def run(self, aim: str | None, draw: random.Random, stays: dict[str, float]) -> Start:
        """Starts it, and kills one process while the folder shows `aim`, or none (None)."""
        began, process = time.monotonic(), self._begin()
        victim, moment = draw.randrange(self.processes), draw.uniform(0, stays.get(aim, 0.0))
        came = began if aim == CLOCK else None
        while process.poll() is None:
            time.sleep(LOOK)
            now = time.monotonic()
            if now - began > PATIENCE:
                self._kill(process, self._pids(process))
                raise SystemExit(f"{self.folder} has not ended after {PATIENCE:.0f} s")
            if aim is None:
                continue
            if came is None and self._shows(aim):
                came = now
            if came is not None and now - came >= moment:
                pids = self._pids(process)
                if len(pids) < self.processes:
                    continue
                place = self._place(pids[victim])
                # One that was cut off earlier lies there until the next is written.
                writing = self._shows(WRITING) and place not in ("start", "opening")
                try:
                    os.kill(pids[victim], signal.SIGKILL)
                except ProcessLookupError:  # it has just ended by itself
                    return self._ended(process, began)
                left = self._others_end(process, pids, pids[victim])
                stage = f"{WRITING} ({place})" if writing else place
                return self._ended(process, began, stage=stage, victim=victim, left=left)
        return self._ended(process, began)

    def _shows(self, aim: str) -> bool:
        there, absent = self._aims[aim]
        return any(self.folder.glob(there)) and not any(self.folder.glob(absent))

    def _begin(self) -> subprocess.Popen:
        with self._output.open("wb") as output:
            streams = {"stdout": output, "stderr": subprocess.STDOUT}
            return subprocess.Popen(self._line, cwd=ROOT, env=self._environment, **streams)

    def _ended(self, process: subprocess.Popen, began: float, **found: object) -> Start:
        code = process.wait(PATIENCE)
        output = self._output.read_text(errors="replace")
        return Start(code, output, time.monotonic() - began, **found)

    def _pids(self, process: subprocess.Popen) -> list[int]:
        """The processes of the run, in their order."""
        if self.processes == 1:
            return [process.pid]
        found = {}
        try:
            task = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for pid in task.read_text().split():
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if "--process-id" in words and _is_alive(int(pid)):
                    found[words[words.index("--process-id") + 1]] = int(pid)
        except OSError:
            return []
        return [found[number] for number in sorted(found)]

    def _place(self, pid: int) -> str:
        """The stage in which a process is, by its stack."""
        file = self._stacks / str(pid)
        if not file.exists() or not _is_alive(pid):
            return "start"
        size = before = file.stat().st_size
        os.kill(pid, signal.SIGUSR1)
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            time.sleep(0.005)
            grown, size = size, file.stat().st_size
            if size == grown > before:
                break
        text = file.read_text(errors="replace")[before:]
        stages = (name for name, stack in STACKS.items() if re.search(stack, text, re.M))
        return next(stages, "start")

    def _others_end(self, process: subprocess.Popen, pids: Sequence[int], killed: int) -> float:
        """Seconds until all processes but one have ended."""
        began = time.monotonic()
        others = [pid for pid in pids if pid != killed]
        while any(map(_is_alive, others)):
            if time.monotonic() - began > OTHERS:
                self._kill(process, others)
                break
            time.sleep(LOOK)
        return time.monotonic() - began

    def _kill(self, process: subprocess.Popen, pids: Sequence[int]) -> None:
        for pid in [*pids, process.pid]:
            if _is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def end_of(folder: Path) -> dict[str, object]:
    """What a finished run folder holds, without times."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.name in COMPARED or name in RUN:
            found[name] = path.read_bytes()
        elif path.name == "metrics.jsonl":
            found[name] = [_timeless(json.loads(line)) for line in path.open()]
        elif path.name == "checkpoints":
            steps = [int(each.name) for each in path.iterdir() if each.name.isdigit()]
            arrays = arrays_of(path / str(max(steps)))
            found |= {f"{name} {keys}": array.tobytes() for keys, array in arrays.items()}
        elif name == "report.html":
            found[name] = re.sub(SPEED, "", path.read_text(), flags=re.S)
    return found


def arrays_of(checkpoint: Path) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint, whatever devices they lay on."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    stored = ocp.checkpointables_metadata(checkpoint).metadata
    stored = {item: stored[item] for item in ("params", "rest")}
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), stored)
    found = {}
    for keys, leaf in jax.tree.leaves_with_path(ocp.load_checkpointables(checkpoint, like)):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        found[jax.tree_util.keystr(keys)] = np.asarray(leaf)
    return found


def _timeless(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if not re.search("second", name)}


def schedule(kills: int, draw: random.Random, shown: Collection[str]) -> list[str]:
    """What SIGKILLs are aimed at, each ten in the order in which one run comes to them."""
    chosen: list[str] = []
    while len(chosen) < kills:
        ten = [aim for aim in shown if aim not in (WRITING, CLOCK)]
        ten.insert(draw.randrange(len(ten)), WRITING)
        while len(ten) < 10:
            ten.insert(draw.randrange(len(ten) + 1), CLOCK)
        chosen += ten
    return chosen[:kills]


def stress(options: argparse.Namespace) -> int:
    draw, began = random.Random(options.seed), time.monotonic()
    alone = Command(options, "alone", processes=options.processes)
    start, stays = alone.watch()
    if start.code != 0:
        raise SystemExit(f"the run left alone ended with {start.code}:\n{start.output[-2000:]}")
    wanted = end_of(alone.folder)
    print(
        f"left alone: {start.seconds:.0f} s, {len(wanted)} things to compare; seconds in a stage "
        f"at a time: { {aim: round(stay, 2) for aim, stay in stays.items()} }",
        flush=True,
    )
    order = [aim for aim in aims(options.arms, options.steps) if aim in stays]
    left = schedule(options.kills, draw, order)
    hit, problems, folders, slowest = collections.Counter(), [], 0, 0.0
    while left:
        folders += 1
        command, before = (
            Command(options, f"killed-{folders}", processes=options.processes),
            len(left),
        )
        while True:
            aim = left[0] if left else None
            start = command.run(aim, draw, stays)
            if start.stage is None:
                break
            left.pop(0)
            hit[start.stage] += 1
            slowest = max(slowest, start.left)
            told = _told(start) if options.processes > 1 else ""
            print(
                f"{sum(hit.values())}: {command.name}, aimed at {aim}, hit "
                f"{start.stage} after {start.seconds:.0f} s{told}",
                flush=True,
            )
        found = [f"exit code {start.code}: {start.output[-500:]}"] if start.code else []
        found = found or differences(end_of(command.folder), wanted)
        problems += found
        print(
            f"{command.name}: {before - len(left)} SIGKILLs, then "
            f"{'equal' if not found else found[:5]}",
            flush=True,
        )
        if before == len(left):
            # The run never comes to that stage, or too briefly to be seen there.
            left[0] = CLOCK
    print(f"{sum(hit.values())} SIGKILLs in {folders} folders; by stage: {dict(hit.most_common())}")
    if options.processes > 1:
        print(f"the slowest end of the other process: {slowest:.1f} s")
    print(f"problems: {problems[:5] or 'none'}; {time.monotonic() - began:.0f} s in all")
    return 1 if problems else 0


def _told(start: Start) -> str:
    """What the other process said, and how long it took to end."""
    others = [
        line for line in start.output.splitlines() if not line.startswith(f"[{start.victim}]")
    ]
    said = [line for line in others if "error: " in line] or others[-3:]
    return f"; process {start.victim}; the other one ended after {start.left:.1f} s: {said}"


def differences(found: dict[str, object], wanted: dict[str, object]) -> list[str]:
    return [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which run it is, and where."""
    program = Path("experiments/saferec/__main__.py")
    parser.add_argument("--program", type=Path, default=program, help="of the experiment")
    parser.add_argument("--preset", default="smoke")
    parser.add_argument("--arms", nargs="+", default=["safe-sft", "safe-gdpo"])
    parser.add_argument("--steps", type=int, default=3, help="of the last arm")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="of all runs; a temporary one unless given")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--processes", type=int, default=1, help="of one run, on this machine")
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.folder = (options.folder or Path(folder)).resolve()
        raise SystemExit(stress(options))


if __name__ == "__main__":
    main()
