"""How a command ends: one message and an exit code, or the traceback of a defect."""

import errno
import importlib
import importlib.machinery
import os
import sys
import types

import pytest

from gdpo_jax.commands import running
from gdpo_jax.commands.running import INTERRUPTED, LOST, WRONG, run_command
from gdpo_jax.errors import UserError
from gdpo_jax.training.agreement import code_version
from gdpo_jax.training.processes import LostProcessError
from gdpo_jax.training.signals import STOPPED, stop_by


@pytest.fixture(autouse=True)
def _settings_of_the_process_stay(monkeypatch):
    for name in ("compile_quickly", "keep_programs"):
        monkeypatch.setattr(running, name, lambda: None)


def run(error):
    def work():
        if error is not None:
            raise error

    commands = {"work": work, "rest": lambda: None}
    return run_command(commands, ["work"], prog="program", description=None)


def disk_full(number):
    error = ValueError("UNKNOWN: writing the checkpoint failed")
    error.__cause__ = OSError(number, os.strerror(number), "/disk/4")
    return error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (None, 0, ""),
        (UserError("no such file"), WRONG, "error: no such file\n"),
        (LostProcessError("process 1 is gone"), LOST, "error: process 1 is gone\n"),
        (KeyboardInterrupt(), INTERRUPTED, "error: stopped by Ctrl-C; the same command starts "),
        (stop_by(2), INTERRUPTED, ""),  # the run has said it
        (
            OSError(errno.ENOSPC, "No space left on device", "/a"),
            WRONG,
            "error: a disk or quota is full ([Errno 28] No spa",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/a"),
            WRONG,
            "error: a disk is read-only or closed to this user ([Errno 30] Read-only file system",
        ),
        (
            ValueError("PERMISSION_DENIED: Permission denied"),
            WRONG,
            "error: a disk is read-only or closed to this user (PERMISSION_DENIED: Perm",
        ),
        (
            disk_full(errno.EDQUOT),
            WRONG,
            "error: a disk or quota is full (UNKNOWN: writing the checkpoint failed). Make room",
        ),
        (
            ValueError("RESOURCE_EXHAUSTED: No space left on device"),
            WRONG,
            "error: a disk or quota is full (RESOURCE_EXHA",
        ),
    ],
)
def test_the_end_has_a_code_and_one_line(error, code, message, capsys):
    assert run(error) == code
    shown = capsys.readouterr().err
    assert shown.startswith(message) and shown.count("\n") == int(bool(message))


def test_a_stopped_run_has_a_code_of_its_own():
    with pytest.raises(SystemExit) as caught:
        run(stop_by(15))
    assert caught.value.code == STOPPED
    assert len({0, 1, WRONG, LOST, INTERRUPTED, STOPPED, 128 + 15}) == 7


def test_a_defect_keeps_its_traceback():
    with pytest.raises(OSError, match="Is a directory"):
        run(OSError(errno.EISDIR, "Is a directory"))


@pytest.mark.parametrize(
    ("started", "named"),
    [
        ({"spec": "experiments.saferec.__main__"}, "files of experiments"),
        ({"file": __file__}, "program"),
        ({"spec": "gdpo_jax.__main__"}, None),
        ({}, None),  # python -c
    ],
)
def test_the_version_of_the_code_names_the_library_and_the_program(monkeypatch, started, named):
    main = types.ModuleType("__main__")
    main.__spec__ = None
    if "spec" in started:
        main.__spec__ = importlib.machinery.ModuleSpec(started["spec"], None)
        importlib.import_module(started["spec"].partition(".")[0])
    if "file" in started:
        main.__file__ = started["file"]
    monkeypatch.setitem(sys.modules, "__main__", main)
    version = code_version()
    always = {"python", "jax", "jaxlib", "gdpo_jax", "files of gdpo_jax"}
    assert set(version) == always | ({named} - {None})
    assert len(version["files of gdpo_jax"]) == 16
