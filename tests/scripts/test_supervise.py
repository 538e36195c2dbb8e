"""scripts/supervise: what is started again, how often, and what a signal does."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SUPERVISE = Path(__file__).parents[2] / "scripts" / "supervise"


def counting(folder, *codes):
    """A command whose n-th start ends with the n-th code, the last one for good."""
    script = folder / "command.sh"
    cases = "".join(f"  {n}) exit {code} ;;\n" for n, code in enumerate(codes, 1))
    script.write_text(
        f"echo start >>{folder}/starts\n"
        f"case $(wc -l <{folder}/starts) in\n{cases}  *) exit {codes[-1]} ;;\nesac\n"
    )
    return ["bash", str(script)]


def starts(folder):
    return len((folder / "starts").read_text().splitlines())


def supervise(*arguments):
    command = [str(SUPERVISE), "--wait", "0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("codes", "restarts", "expected", "count"),
    [
        ((75, 1, 134, 0), 5, 0, 4),  # preempted, crashed, aborted, done
        ((76, 137, 2), 5, 2, 3),  # a process lost, killed; then a mistake that stays
        ((130,), 5, 130, 1),
        ((0,), 5, 0, 1),
        ((1,), 2, 1, 3),
        ((75,), 0, 75, 1),
    ],
)
def test_what_the_same_command_recovers_from_is_started_again(
    tmp_path, codes, restarts, expected, count
):
    done = supervise("--restarts", str(restarts), "--", *counting(tmp_path, *codes))
    assert (done.returncode, starts(tmp_path)) == (expected, count)
    assert done.stderr.count("starting again in 0 s") == count - 1


def test_it_waits_longer_each_time_up_to_a_limit_and_anew_after_a_steady_run(tmp_path):
    (tmp_path / "sleep").write_text("#!/bin/sh\n")  # in place of the real one
    (tmp_path / "sleep").chmod(0o755)

    def waits(*more):
        done = subprocess.run(
            [SUPERVISE, "--wait", "3", "--longest-wait", "10", "--restarts", "4", *more]
            + counting(tmp_path, 1),
            capture_output=True,
            text=True,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            timeout=60,
        )
        return [line.split(" in ")[1].split(" s ")[0] for line in done.stderr.splitlines()[:4]]

    assert waits() == ["3", "6", "10", "10"]
    steady = subprocess.Popen(
        [SUPERVISE, "--wait", "3", "--restarts", "1", "--steady", "0", *counting(tmp_path, 1)],
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )
    lines = [steady.stderr.readline() for _ in range(3)]
    steady.terminate()
    steady.communicate(timeout=60)
    assert all("in 3 s (1 times left)" in line for line in lines)


# With a rest, the command has ended before the script goes on from passing the signal on.
@pytest.mark.parametrize("rest", [0, 1])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_command_and_nothing_is_started_again(tmp_path, number, code, rest):
    script = tmp_path / "command.py"
    script.write_text(
        "import signal, sys, time\n"
        "def stop(number, frame):\n"
        "    print('stored', flush=True)\n"
        "    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "try:\n"
        "    print('started', flush=True)\n"
        "    while True: time.sleep(0.05)\n"
        "except KeyboardInterrupt:\n"
        "    print('stored', flush=True)\n"
        "    sys.exit(130)\n"
    )
    begin = tmp_path / "begin.sh"
    begin.write_text(
        f'kill() {{ local code=0; builtin kill "$@" || code=$?; sleep {rest}; return $code; }}\n'
    )
    command = [SUPERVISE, "--wait", "0", "--", "python3", str(script)]
    environment = {**os.environ, "BASH_ENV": str(begin)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (code, "stored\n")


def test_a_signal_while_it_waits_ends_it_at_once(tmp_path):
    command = [SUPERVISE, "--wait", "100", "--", *counting(tmp_path, 1)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert "starting again in 100 s" in process.stderr.readline()
    begun = time.monotonic()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 1 and time.monotonic() - begun < 50
    assert starts(tmp_path) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a command"),
        (("--restarts", "many", "true"), "--restarts needs a whole number, not 'many'"),
        (("--again", "true"), "unknown option --again"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    done = supervise(*arguments)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_dry_run_starts_nothing(tmp_path):
    done = supervise("--dry-run", "--restarts", "3", "--", "touch", str(tmp_path / "a b"))
    assert done.returncode == 0 and not (tmp_path / "a b").exists()
    assert "a\\ b" in done.stdout and "at most 3 times, after 0 s" in done.stdout
