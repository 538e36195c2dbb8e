"""Joining the processes of a run, and what is shown where JAX ends one of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.training import joining
from gdpo_jax.training.joining import join_processes

FILTER = Path(joining.__file__).with_name("error_filter.py")
NOTICE = (
    "E1129 21:43:01.193790    3123 coordination_service_agent.cc:289] Polled an error from "
    "coordination service (this can be an error from this or another task).\n"
)
END = (
    "F1129 21:43:01.193878    3123 client.h:80] Terminating process because the JAX distributed "
    "service detected fatal errors. This most likely indicates that another task died.\n"
    "Additional GRPC error information from remote target\n"
    "*** Check failure stack trace: ***\n"
    "    @     0x7f91ca840634  absl::lts_20260107::log_internal::LogMessage::SendToLog()\n"
    "Fatal Python error: Aborted\n"
)


def filtered(text):
    command = [sys.executable, "-I", "-S", str(FILTER)]
    done = subprocess.run(command, input=text, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0
    return done.stderr


@pytest.mark.parametrize("text", ["", "a\nb\n", "no line end", "E is a letter\n\n", NOTICE, "é\n"])
def test_what_people_are_told_passes(text):
    assert filtered(text) == text


def test_a_stack_becomes_one_message():
    shown = filtered(f"step 3\n{NOTICE}1\nThe tasks have crashed.\n{END}")
    assert shown.startswith("step 3\nerror: JAX has ended this process: another process")
    assert len(shown.splitlines()) == 2


@pytest.mark.parametrize("at", ["before", "after"])
def test_what_the_process_has_found_out_itself_is_the_message(at):
    own = "error: process 1 is gone; start all 2 processes again\n"
    shown = filtered(f"{own}{NOTICE}{END}" if at == "before" else f"{NOTICE}{own}{END}")
    assert shown == own


def test_a_notice_without_an_end_is_shown_after_two_seconds():
    with subprocess.Popen(
        [sys.executable, str(FILTER)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdin.write(f"{NOTICE}step 4\n")
        process.stdin.flush()
        assert [process.stderr.readline() for _ in range(2)] == [NOTICE, "step 4\n"]
        # A line that is not finished does not wait for its end.
        process.stdin.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host:1", None, None), "--num-processes and --process-id must be given as well"),
        ((None, 2, 0), "--coordinator must be given as well"),
        (("host", 2, 0), "--coordinator 'host': give HOST:PORT"),
        (("host:0", 2, 0), "HOST:PORT"),
        (("a b:80", 2, 0), "HOST:PORT"),
        (("host:80", 2, 2), r"--process-id 2 is not in 0\.\.1"),
        (("host:80", 2, -1), "--process-id -1 is not in"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given, message, monkeypatch):
    monkeypatch.setattr(joining, "_filter_errors", lambda: pytest.fail("went on"))
    with pytest.raises(UserError, match=message):
        join_processes(*given)


@pytest.mark.parametrize("host", ["10.0.0.2:8476", "[::1]:8476", "host.name:80"])
def test_where_the_others_do_not_come_one_message_says_so(host, monkeypatch):
    def away(*given, **_):
        assert given == (host, 2, 1)
        raise RuntimeError("DEADLINE_EXCEEDED: Deadline Exceeded\n[type]")

    monkeypatch.setattr(joining, "_filter_errors", lambda: None)
    monkeypatch.setattr("jax.distributed.initialize", away)
    with pytest.raises(UserError, match=r"process 1 could not join the others at .*DEADLINE"):
        join_processes(host, 2, 1)


def test_where_nothing_finds_the_others_the_options_are_named(monkeypatch):
    def unknown(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(joining, "_filter_errors", lambda: None)
    monkeypatch.setattr("jax.distributed.initialize", unknown)
    with pytest.raises(UserError, match=r"no TPU VM, GKE or SLURM job .* Give --coordinator"):
        join_processes()
