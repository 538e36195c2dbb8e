#!/usr/bin/env python
"""Writes a store of conversations from many processes, ends some of them, and looks what is there.

    python scripts/stress_store.py [--users 100 1000 10000] [--messages 100] [--writers 8]
        [--kills 20] [--append 20] [--deletions 3] [--seed 0] [--plain] [--folder FOLDER]

Every process has a share of all conversations, drawn so that several write to one user, and tells
through a pipe what was acknowledged. At moments that the seed draws, one of them gets SIGKILL, and
another one goes on behind its last acknowledged append. In the end every user must have each of his
messages once, and no other; deleted ones must have left none of their secrets in any file. The time
to read one user's history is measured after each of --users.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import secrets
import selectors
import signal
import statistics
import tempfile
import time
from pathlib import Path

from experiments.persona_leakage.store.conversations import Message, open_store
from experiments.persona_leakage.store.overview import check, costs

WORDS = ("tea", "river", "lamp", "garden", "letter", "music", "road", "bread", "window", "paper")


def conversation(user: int, number: int, size: int) -> tuple[str, list[Message]]:
    """One user's conversation, in which every message names him."""
    name, draw = f"user-{user}", random.Random(f"{user} {number}")
    messages = []
    for n in range(size):
        secret = f"{draw.getrandbits(96):024x}"
        words = " ".join(draw.choices(WORDS, k=8))
        messages.append(
            Message(
                id=f"{number}/{n}",
                conversation=str(number),
                role=("user", "assistant")[n % 2],
                content=f"{name} {secret} {words}",
            )
        )
    return name, messages


def share(options: argparse.Namespace, first: int, last: int, writer: int) -> list[tuple[int, int]]:
    """What a writer appends, in order: pairs of user and conversation."""
    numbers = range(-(-options.messages // options.append))
    pairs = [(user, number) for user in range(first, last) for number in numbers]
    random.Random(f"{options.seed} order {first}").shuffle(pairs)
    return pairs[writer :: options.writers]


def size_of(options: argparse.Namespace, number: int) -> int:
    return min(options.append, options.messages - number * options.append)


def write(options: argparse.Namespace, pairs: list[tuple[int, int]], pipe: int) -> None:
    """A writer: appends conversations, and tells a byte for each that is acknowledged."""
    with contextlib.closing(open_store(options.folder, options.key)) as store:
        for user, number in pairs:
            name, messages = conversation(user, number, size_of(options, number))
            store.user(name).append(messages)
            os.write(pipe, b".")


def step(options: argparse.Namespace, first: int, last: int, kills: list[int], draw) -> int:
    """Writes users `first` to `last`; ends a writer at each count of appends in `kills`.

    Returns how many appends were acknowledged. Where all have ended, what is left of `kills` stays.
    """
    shares = [share(options, first, last, writer) for writer in range(options.writers)]
    done, running, watched = [0] * options.writers, {}, selectors.DefaultSelector()
    fork = multiprocessing.get_context("fork")  # the modules are loaded once

    def start(writer: int) -> None:
        told, pipe = os.pipe()
        arguments = (options, shares[writer][done[writer] :], pipe)
        running[writer] = (fork.Process(target=write, args=arguments), told)
        running[writer][0].start()
        os.close(pipe)  # so that its end is told as well
        watched.register(told, selectors.EVENT_READ, writer)

    def collect(writer: int) -> bool:
        """Counts what a writer told; False after its end, when all of it is counted."""
        new = os.read(running[writer][1], 1 << 16)
        done[writer] += len(new)
        return bool(new)

    def end(writer: int) -> None:
        process, told = running.pop(writer)
        process.join()
        watched.unregister(told)
        os.close(told)
        if process.exitcode not in (0, -signal.SIGKILL):
            raise SystemExit(f"writer {writer} failed")
        if done[writer] < len(shares[writer]):
            start(writer)

    for writer in range(options.writers):
        start(writer)
    while running:
        for key, _ in watched.select():
            if not collect(key.data):
                end(key.data)
        if kills and running and sum(done) >= kills[0]:
            kills.pop(0)
            time.sleep(draw.uniform(0, 0.02))
            writer = draw.choice(sorted(running))
            running[writer][0].kill()
            while collect(writer):
                pass
            end(writer)
    return sum(done)


def reading_times(options: argparse.Namespace, users: int, draw: random.Random) -> tuple:
    """Seconds to read the history of one user, medians over some users: on the clock, of the CPU.

    The file was opened anew; where other programs keep the machine busy, the CPU's time tells more.
    """
    clock, cpu = [], []
    with contextlib.closing(open_store(options.folder, options.key)) as store:
        store.user("nobody").read()
        for user in draw.sample(range(users), min(users, 100)):
            handle = store.user(f"user-{user}")
            before = time.perf_counter(), time.thread_time()
            found = handle.read()
            clock.append(time.perf_counter() - before[0])
            cpu.append(time.thread_time() - before[1])
            assert len(found) == options.messages, f"{len(found)} messages of user {user}"
    return statistics.median(clock), statistics.median(cpu)


def verify(options: argparse.Namespace) -> list[str]:
    """What is wrong with what is stored, user by user."""
    problems = []
    numbers = range(-(-options.messages // options.append))
    with contextlib.closing(open_store(options.folder, options.key)) as store:
        problems += check(store).problems
        for user in range(options.users[-1]):
            expected = [conversation(user, n, size_of(options, n))[1] for n in numbers]
            found = store.user(f"user-{user}").read()
            wanted = {message for messages in expected for message in messages}
            if others := set(found) - wanted:
                problems.append(f"user-{user} has {len(others)} messages that are not his")
            if lost := wanted - set(found):
                problems.append(f"user-{user} lost {len(lost)} messages")
            if len(found) != len(set(found)):
                problems.append(f"user-{user} has messages twice")
            order = [message.id for message in found]
            for messages in expected:
                ids = [message.id for message in messages]
                at = order.index(ids[0]) if ids[0] in order else 0
                if order[at : at + len(ids)] != ids:
                    problems.append(f"user-{user}: a conversation is out of order")
        listed = costs(store)
        if len(listed) != options.users[-1]:
            problems.append(f"{len(listed)} users are listed")
    return problems


def delete(options: argparse.Namespace, draw: random.Random) -> list[str]:
    """Deletes some users, and searches all files for each of their secrets, by another way."""
    problems = []
    numbers = range(-(-options.messages // options.append))
    with contextlib.closing(open_store(options.folder, options.key)) as store:
        for user in draw.sample(range(options.users[-1]), options.deletions):
            folder = store.user(f"user-{user}").make_folder()
            (folder / "adapter.bin").write_bytes(b"an adapter of user-%d" % user)
            before = time.perf_counter()
            done = store.user(f"user-{user}").delete()
            print(
                f"deletion of user-{user}: {done.messages} messages, {done.files} file, "
                f"{sum(done.searched.values()) / 1e6:.1f} MB searched for {done.words} pieces, "
                f"file written anew: {done.rebuilt}, {time.perf_counter() - before:.2f} s",
                flush=True,
            )
            told = [m for n in numbers for m in conversation(user, n, size_of(options, n))[1]]
            needles = [message.content.split()[1].encode() for message in told]
            for path in sorted(p for p in options.folder.rglob("*") if p.is_file()):
                data = path.read_bytes()
                problems += [f"{path.name} has {n!r}" for n in needles if n in data]
            if store.user(f"user-{user}").read():
                problems.append(f"user-{user} can still be read")
        checked = check(store)
        problems += checked.problems
        print(f"after deletions: {checked.users} users, {checked.messages} messages", flush=True)
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--messages", type=int, default=100, help="of each user")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--append", type=int, default=20, help="messages of one append")
    parser.add_argument("--deletions", type=int, default=3)
    parser.add_argument(
        "--every", type=int, default=1, help="of a deleted user's secrets, look for"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="without encryption")
    parser.add_argument("--folder", type=Path, help="of the store; a temporary one unless given")
    options = parser.parse_args()
    options.key = None if options.plain else secrets.token_bytes(32)
    with tempfile.TemporaryDirectory() as folder:
        options.folder = options.folder or Path(folder) / "store"
        raise SystemExit(stress(options))


def stress(options: argparse.Namespace) -> int:
    draw, began = random.Random(options.seed), time.perf_counter()
    steps = list(zip([0, *options.users], options.users))
    per_user = -(-options.messages // options.append)
    # Behind 0.9 of the appends, all writers may have ended before it is seen that they are there.
    last_moment = int(0.9 * options.users[-1] * per_user)
    moments = sorted(draw.randrange(last_moment) for _ in range(options.kills))
    appends, times = 0, {}
    for first, last in steps:
        here = [m - appends for m in moments if first * per_user <= m < last * per_user]
        planned, before = len(here), time.perf_counter()
        appends += (new := step(options, first, last, here, draw))
        seconds = time.perf_counter() - before
        times[last] = reading_times(options, last, draw)
        clock, cpu = (f"{1e3 * value:.3f} ms" for value in times[last])
        print(
            f"{last} users: {new} appends of {options.append} messages in {seconds:.1f} s by "
            f"{options.writers} processes, {planned - len(here)} SIGKILLs; a history of "
            f"{options.messages} messages is read in {clock}, {cpu} of the CPU",
            flush=True,
        )
    for n, name in enumerate(("clock", "CPU")):
        base = times[options.users[0]][n]
        ratios = ", ".join(f"{users} users {times[users][n] / base:.2f}" for users in options.users)
        print(
            f"time of a read, relative to {options.users[0]} users ({name}): {ratios}", flush=True
        )
    problems = verify(options)
    print(f"{appends} acknowledged appends; problems: {problems[:5] or 'none'}", flush=True)
    problems += delete(options, draw)
    print(f"problems in all: {problems[:5] or 'none'}; {time.perf_counter() - began:.0f} s in all")
    return 1 if problems else 0


if __name__ == "__main__":
    main()
