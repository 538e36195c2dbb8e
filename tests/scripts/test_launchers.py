"""Scripts that start runs elsewhere: what they would run, that they run just that, and mistakes."""

import shlex
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
POD = ("--name", "pod", "--zone", "zone-a")
CLUSTER = ("--workload", "w", "--cluster", "c", "--zone", "z", "--project", "p", "--image", "r/i:1")
TRAIN = ("python", "-m", "gdpo_jax", "train", "--weights", "brief=0.2 x", "--distributed")


def start(script, *arguments, **options):
    command = ["bash", str(SCRIPTS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def commands(shown):
    """The lines that begin with "+", as words."""
    return [shlex.split(line)[1:] for line in shown.splitlines() if line.startswith("+")]


def would_run(script, *arguments):
    done = start(script, *arguments)
    assert done.returncode == 0, done.stderr
    return commands(done.stdout)


SSH = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod", "--zone", "zone-a", "--worker=all"]
ALIVE = "--ssh-flag=-o ServerAliveInterval=30"


def test_a_pod_is_made_with_its_type_and_image():
    [create] = would_run(
        "tpu_pod_run", "create", *POD, "--type", "v5litepod-16", "--spot", "--dry-run"
    )
    assert create == [
        *("gcloud", "compute", "tpus", "tpu-vm", "create", "pod", "--zone", "zone-a"),
        *("--accelerator-type=v5litepod-16", "--version=v2-alpha-tpuv5-lite", "--spot"),
    ]
    [delete] = would_run("tpu_pod_run", "delete", *POD, "--project", "p", "--dry-run")
    assert delete[-5:] == ["--zone", "zone-a", "--project", "p", "--quiet"]


def test_a_command_runs_on_every_host_behind_supervise_with_a_log():
    [ssh] = would_run("tpu_pod_run", "run", *POD, "--dry-run", "--", *TRAIN)
    assert ssh[:-1] == [*SSH, ALIVE]
    remote = ssh[-1].removeprefix("--command=")
    assert subprocess.run(["bash", "-n", "-c", remote]).returncode == 0
    assert "scripts/supervise -- python -m gdpo_jax train --weights brief=0.2\\ x" in remote
    assert ">logs/$(hostname).log 2>&1 </dev/null &" in remote
    [stop] = would_run("tpu_pod_run", "stop", *POD, "--dry-run")
    assert stop[-1] == '--command=kill -TERM "$(cat gdpo_jax/logs/supervise.pid)"'


def test_hosts_get_the_committed_files_and_are_prepared():
    archive, copy, unpack = would_run("tpu_pod_run", "copy", *POD, "--worker", "0", "--dry-run")
    assert archive[:3] == ["git", "archive", "--format=tar.gz"] and archive[-1] == "HEAD"
    assert copy[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "scp", archive[3].split("=")[1]]
    assert "--worker=0" in copy and "--worker=0" in unpack
    [setup] = would_run("tpu_pod_run", "setup", *POD, "--dry-run")
    assert setup == [*SSH, ALIVE, "--command=cd gdpo_jax && scripts/tpu_vm_setup"]
    pip, venv, install, check = would_run("tpu_vm_setup", "--dry-run", "--python", "3.13")
    assert pip[-1] == "uv" and venv[-2:] == ["3.13", ".venv"]
    assert install[-2:] == ["--editable", ".[tpu]"]
    assert "jax.devices" not in check[-1]


def test_a_workload_has_its_image_and_restarts():
    build, push, create = would_run("xpk_launch", *CLUSTER, "--dry-run", "--", *TRAIN)
    assert build == ["docker", "build", "--file", "scripts/Dockerfile", "--tag", "r/i:1", "."]
    assert push == ["docker", "push", "r/i:1"]
    assert create[:3] == ["xpk", "workload", "create"]
    for option in ("--tpu-type=v5litepod-16", "--num-slices=1", "--max-restarts=50"):
        assert option in create
    assert shlex.split(create[-1]) == ["exec", *TRAIN]
    more = ("--no-build", "--tpu-type", "v6e-8", "--num-slices", "2", "--max-restarts", "3")
    [create] = would_run("xpk_launch", *CLUSTER, *more, "--dry-run", "--", *TRAIN)
    assert {"--tpu-type=v6e-8", "--num-slices=2", "--max-restarts=3"} < set(create)


def test_the_image_holds_what_its_build_copies():
    lines = (SCRIPTS / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert {"pyproject.toml", "gdpo_jax", "experiments", "scripts"} <= set(copied)
    assert all((SCRIPTS.parent / name).exists() for name in copied)


def test_a_node_starts_one_process_a_gpu():
    [srun] = would_run("slurm_gpu.sbatch", "--dry-run", *TRAIN)
    assert srun == ["srun", "--kill-on-bad-exit=0", "--label", *TRAIN]
    text = (SCRIPTS / "slurm_gpu.sbatch").read_text()
    asked = [line.removeprefix("#SBATCH ") for line in text.splitlines() if "#SBATCH " in line]
    assert {"--ntasks-per-node=8", "--gpus-per-node=8", "--signal=TERM@300"} <= set(asked)


@pytest.fixture
def programs(tmp_path):
    """A search path on which programs write down how they were called, and end with $CODE."""
    for name in ("gcloud", "docker", "xpk", "srun", "scontrol"):
        script = f'#!/bin/bash\nprintf "%q " "${{0##*/}}" "$@" >>{tmp_path}/calls\n'
        script += f"echo >>{tmp_path}/calls\n[ ${{0##*/}} != srun ] || exit ${{CODE:-0}}\n"
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)

    def run(script, *arguments, **variables):
        (tmp_path / "calls").unlink(missing_ok=True)
        done = start(script, *arguments, env={"PATH": f"{tmp_path}:/usr/bin:/bin", **variables})
        calls = (tmp_path / "calls").read_text().splitlines()
        return done, [shlex.split(call) for call in calls]

    return run


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("tpu_pod_run", ("run", *POD, "--", *TRAIN)),
        ("tpu_pod_run", ("create", *POD, "--type", "v5litepod-16")),
        ("tpu_pod_run", ("logs", *POD)),
        ("xpk_launch", (*CLUSTER, "--", *TRAIN)),
    ],
)
def test_what_is_shown_is_what_runs(programs, script, arguments):
    done, calls = programs(script, *arguments)
    assert done.returncode == 0, done.stderr
    assert calls == commands(done.stdout)
    place = arguments.index("--") if "--" in arguments else len(arguments)
    assert calls == would_run(script, *arguments[:place], "--dry-run", *arguments[place:])


@pytest.mark.parametrize(
    ("code", "restarts", "queued"),
    [
        ("0", "0", False),
        ("75", "0", True),
        ("134", "3", True),
        ("75", "4", False),
        ("2", "0", False),
    ],
)
def test_a_stopped_or_crashed_job_is_queued_again_up_to_a_limit(programs, code, restarts, queued):
    variables = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": restarts, "MOST_RESTARTS": "4"}
    done, calls = programs("slurm_gpu.sbatch", *TRAIN, CODE=code, **variables)
    assert done.returncode == int(code)
    assert (["scontrol", "requeue", "7"] in calls) == queued


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("tpu_pod_run", ("start", *POD), "unknown action start"),
        ("tpu_pod_run", ("run", *POD), "run needs -- COMMAND"),
        ("tpu_pod_run", ("run", "--name", "pod"), "--zone is missing"),
        ("tpu_pod_run", ("create", *POD), "--type is missing"),
        ("tpu_pod_run", ("logs", *POD, "--all"), "unknown option --all"),
        ("tpu_pod_run", ("logs", "--name"), "--name needs a value"),
        ("tpu_vm_setup", ("--now",), "unknown option --now"),
        ("xpk_launch", CLUSTER, "give -- COMMAND"),
        ("xpk_launch", (*CLUSTER[2:], "--", "true"), "--workload is missing"),
        ("slurm_gpu.sbatch", (), "give a command"),
        ("slurm_gpu.sbatch", ("python", "-m", "gdpo_jax"), "lacks --distributed"),
        ("local_pod", ("--processes", "0", "true"), "--processes needs a whole number above 0"),
        ("local_pod", (), "give a command"),
    ],
)
def test_mistakes_are_one_line(script, arguments, message):
    done = start(script, *arguments)
    assert done.returncode == 2 and message in done.stderr
    assert done.stderr.startswith(f"{script}: ") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("script", ["tpu_pod_run", "tpu_vm_setup", "xpk_launch", "local_pod"])
def test_help_is_what_stands_at_the_top(script):
    done = start(script, "--help")
    assert done.returncode == 0 and f"scripts/{script}" in done.stdout
    assert "set -euo" not in done.stdout and "#" not in done.stdout


def test_local_processes_know_each_other_and_their_devices():
    more = ("--processes", "3", "--devices", "2", "--port", "5000", "--dry-run")
    done = start("local_pod", *more, "--", "python", "a b.py", env={"PATH": "/usr/bin:/bin"})
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert len(lines) == 3
    for index, line in enumerate(lines):
        assert line[:4] == [
            *("JAX_PLATFORMS=cpu", "JAX_NUM_CPU_DEVICES=2", "PJRT_NPROC=64"),
            "XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false",
        ]
        joined = ["--coordinator", "127.0.0.1:5000", "--num-processes", "3"]
        assert line[4:] == ["python", "a b.py", *joined, "--process-id", str(index)]


def test_local_processes_are_told_apart_and_end_with_the_first_code_that_is_not_0(tmp_path):
    script = tmp_path / "process.sh"
    script.write_text('echo "$JAX_NUM_CPU_DEVICES $*"\necho problem >&2\nexit $((7 * ${@: -1}))\n')
    done = start("local_pod", "--processes", "3", "--", "bash", str(script), "x")
    assert done.returncode == 7
    lines = done.stdout.splitlines()
    assert sorted(line[:9] for line in lines) == [f"[{index}] 4 x -" for index in range(3)]
    assert sorted(done.stderr.splitlines()) == [f"[{index}] problem" for index in range(3)]


def test_a_signal_reaches_all_local_processes(tmp_path):
    script = tmp_path / "process.sh"
    script.write_text("trap 'exit 75' TERM\necho started\nwhile true; do sleep 0.1; done\n")
    command = ["bash", str(SCRIPTS / "local_pod"), "bash", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert {process.stdout.readline() for _ in range(2)} == {"[0] started\n", "[1] started\n"}
        process.terminate()
        assert process.wait(timeout=60) == 75


def test_local_processes_that_wait_for_one_that_failed_are_ended(tmp_path):
    script = tmp_path / "process.sh"
    script.write_text(
        'if [ "${@: -1}" = 0 ]; then exit 7; fi\n'
        "trap 'echo no' TERM\n"
        'if [ "${@: -1}" = 1 ]; then trap - TERM; fi\n'
        "while true; do sleep 0.1; done\n"
    )
    more = ("--processes", "3", "--patience", "1")
    done = start("local_pod", *more, "--", "bash", str(script))
    assert done.returncode == 7 and done.stdout == "[2] no\n"
    assert done.stderr.splitlines() == [
        "local_pod: process 0 ended with 7; the others have not ended after 1 seconds: SIGTERM",
        "local_pod: process 0 ended with 7; the others have not ended after 11 seconds: SIGKILL",
    ]
