"""Compiled programs outlive their process where a command line asks for it, and only there."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import jaxlib

ROOT = Path(__file__).parent.parent
IMPORTS = """
import pkgutil, jax
before = dict(jax.config.values)
import flax, chex, optax
from orbax.checkpoint import v1
theirs = {name for name, value in jax.config.values.items() if before.get(name) != value}
import gdpo_jax
for module in pkgutil.walk_packages(gdpo_jax.__path__, "gdpo_jax."):
    __import__(module.name)
changed = {name for name, value in jax.config.values.items() if before.get(name) != value}
print(sorted(changed - theirs))
"""
FLAGS = """
import os, sys
from gdpo_jax.compilation import compile_quickly
for given in sys.argv[1:]:
    os.environ["XLA_FLAGS"] = given
    compile_quickly(); compile_quickly()
    print(os.environ["XLA_FLAGS"])
import jax
assert jax.jit(lambda x: x.sum())(jax.numpy.ones(3)) == 3
"""
COUNTED = """
import collections, jax
from gdpo_jax.commands.running import run_command
seen = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: seen.update([event.split("/")[-1]]))
def compute(): jax.jit(lambda x: x @ x.T + 1)(jax.numpy.ones((3, 4)))
def other(): pass
commands = {"compute": compute, "other": other}
assert run_command(commands, ["compute"], prog="p", description=None) == 0
print(seen["cache_hits"], seen["cache_misses"])
"""
FROZEN = """
import gc, sys
from gdpo_jax.commands.running import run_command
def one(): pass
sys.argv = ["p", "one"]
counts = []
for arguments in (["one"], None):
    assert run_command({"one": one, "other": one}, arguments, prog="p", description=None) == 0
    counts.append(gc.get_freeze_count())
print(counts[0], counts[1] > 100_000)
"""


def output(script: str, *arguments: str, **environment: str) -> str:
    """What a fresh Python prints that keeps every program, however fast it compiles."""
    given = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    given |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **environment}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=given,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_every_module_changes_no_setting_of_jax():
    assert output(IMPORTS) == "[]"


def test_the_second_command_finds_the_programs_of_the_first(tmp_path):
    home = {"XDG_CACHE_HOME": str(tmp_path / "home")}
    hits, misses = map(int, output(COUNTED, **home).split())
    assert hits == 0 and misses > 0
    assert list((tmp_path / "home" / "gdpo_jax" / "programs").iterdir())
    assert output(COUNTED, **home) == f"{misses} 0"
    # A folder that JAX was given comes first.
    elsewhere = home | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "given")}
    assert output(COUNTED, **elsewhere) == f"0 {misses}"
    assert list((tmp_path / "given").iterdir())


def test_the_cache_can_be_turned_off_and_needs_no_home(tmp_path):
    home = {"XDG_CACHE_HOME": str(tmp_path / "home")}
    assert output(COUNTED, JAX_ENABLE_COMPILATION_CACHE="false", **home) == "0 0"
    assert not (tmp_path / "home").exists()
    (tmp_path / "file").touch()
    assert output(COUNTED, XDG_CACHE_HOME=str(tmp_path / "file")) == "0 0"


def test_flags_that_this_release_of_xla_knows_are_added_once_and_to_what_is_given():
    given = "--xla_cpu_enable_fast_math=false"
    two_ways = jaxlib.version.__version_info__ < (0, 11) and not find_spec("libtpu")
    added = "--xla_cpu_use_fusion_emitters=false" if two_ways else ""
    chosen = "--xla_cpu_use_fusion_emitters=true"
    # JAX starts with the last ones.
    *others, last = output(FLAGS, chosen, "", given).split("\n")
    assert others == [chosen, added]
    assert last == f"{given} {added}".strip()


def test_a_process_that_is_one_command_keeps_the_collector_from_what_it_imported():
    assert output(FROZEN) == "0 True"
