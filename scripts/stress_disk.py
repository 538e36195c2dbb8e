#!/usr/bin/env python
"""Runs an experiment on a disk that gets full or is read-only, and again when there is room.

    python scripts/stress_disk.py [--rooms 0 0.25 0.5 0.75] [--seed 0] [--folder FOLDER]
        [--program experiments/saferec/__main__.py] [--preset smoke] [--arms safe-sft safe-gdpo]

For Linux and root: the disk is a tmpfs. One run is left alone on the disk that the folder lies on.
For each of --rooms, the same command then starts on a disk that has this share of what the whole
run takes: it must end with exit code 2 and one line of error. Then there is room, and the same
command must go on to the end of the run left alone, bit for bit (`stress_runs.py`). A disk that is
read-only, before anything is there and after SIGKILL in the last arm, must give the same.
"""

import argparse
import contextlib
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stress_runs import Command, Start, add_options, differences, end_of

SLACK = 8 << 20  # bytes beyond what the run takes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    rooms = [0.0, 0.25, 0.5, 0.75]
    parser.add_argument("--rooms", type=float, nargs="+", default=rooms, help="shares of the run")
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.folder = (options.folder or Path(folder)).resolve()
        raise SystemExit(stress(options))


def stress(options: argparse.Namespace) -> int:
    began, draw = time.monotonic(), random.Random(options.seed)
    alone = Command(options, "alone")
    start, stays = alone.watch()
    if start.code != 0:
        raise SystemExit(f"the run left alone ended with {start.code}:\n{start.output[-2000:]}")
    wanted = end_of(alone.folder)
    taken = sum(path.stat().st_size for path in alone.folder.rglob("*") if path.is_file())
    print(f"left alone: {start.seconds:.0f} s, {taken / 1e6:.1f} MB", flush=True)
    problems = []

    def goes_on(command: Command, name: str) -> None:
        """The same command, with room again."""
        end = command.run(None, draw, stays)
        found = [f"exit code {end.code}: {end.output[-300:]}"] if end.code else []
        found = found or differences(end_of(command.folder), wanted)
        problems.extend(f"{name}, with room again: {one}" for one in found)
        print(f"{name}: with room again {found[:3] or 'equal'}", flush=True)

    for number, room in enumerate(options.rooms):
        command, name = Command(options, f"full-{number}"), f"room for {room:.0%} of the run"
        with disk(command.folder.parent, taken + SLACK) as folder:
            filler = folder / "filler"
            filler.write_bytes(bytes(int(taken * (1 - room)) + SLACK))
            problems.extend(told(name, command.run(None, draw, stays)))
            filler.unlink()
            goes_on(command, name)
    command = Command(options, "read-only")
    with disk(command.folder.parent, taken + SLACK) as folder:
        for name in ("read-only before anything is there", "read-only after SIGKILL"):
            remount(folder, "ro")
            problems.extend(told(name, command.run(None, draw, stays)))
            remount(folder, "rw")
            if "SIGKILL" not in name:
                killed = command.run("later steps of RL", draw, stays)
                print(f"SIGKILL in {killed.stage}", flush=True)
        goes_on(command, name)
    print(f"problems: {problems[:5] or 'none'}; {time.monotonic() - began:.0f} s in all")
    return 1 if problems else 0


@contextlib.contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of `size` bytes at `folder`."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def told(name: str, start: Start) -> list[str]:
    """What is wrong with how the run ended: it must be exit code 2 and one message."""
    lines = [line for line in start.output.splitlines() if line.startswith("error: ")]
    print(f"{name}: exit code {start.code}, {lines}", flush=True)
    if start.code == 2 and len(lines) == 1 and "Traceback" not in start.output:
        return []
    return [f"{name}: exit code {start.code}: {start.output[-1500:]}"]


if __name__ == "__main__":
    main()
