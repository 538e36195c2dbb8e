"""A reward function that never returns ends the run with its name and the sample."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.rollouts import Completion, RewardError, score
from gdpo_jax.rollouts.time_limit import LateError, check_time_limit, time_limit

TEXTS = ("a", "b", "stuck", "d")
LIMIT = 0.3


def call(*functions, timeout=LIMIT):
    completions = [Completion(text, (0,), ((0, len(text)),), True) for text in TEXTS]
    size = {"num_prompts": 2, "num_samples": 2}
    return score(functions, completions, [{}] * 4, **size, timeout=timeout)


def sleeping(completions, records):
    for completion in completions:
        if completion.text == "stuck":
            threading.Event().wait()
    return [1.0] * len(completions)


def stubborn(completions, records):
    while "stuck" in [completion.text for completion in completions]:
        try:
            time.sleep(60)
        except Exception:
            continue
    return [1.0] * len(completions)


def slow(completions, records):
    time.sleep(0.4 * LIMIT * len(completions))
    return [1.0] * len(completions)


async def waiting(completions, records):
    if "stuck" in [completion.text for completion in completions]:
        await asyncio.Event().wait()
    return [1.0] * len(completions)


async def blocking(completions, records):
    time.sleep(60)


async def quick(completions, records):
    return [2.0] * len(completions)


@pytest.mark.parametrize("function", [sleeping, stubborn, waiting])
def test_a_function_that_hangs_is_named_with_its_sample(function):
    before = signal.getsignal(signal.SIGUSR2)
    message = (
        rf"^reward '{function.__name__}' did not answer within 0.3 seconds \(score_timeout\)\n"
        "on sample 2 of 4, whose text is 'stuck'$"
    )
    with pytest.raises(RewardError, match=message):
        call(quick, function)
    assert signal.getsignal(signal.SIGUSR2) is before
    # The next call is none the worse.
    assert call(quick).values[0, 0, 0] == 2.0


def test_one_that_is_slow_on_all_of_them_says_so():
    with pytest.raises(RewardError, match=r"'slow' did not answer .*\non sample [0-3] of 4"):
        call(slow)
    assert call(slow, timeout=60.0).values.shape == (2, 2, 1)
    assert call(slow, timeout=None).values.shape == (2, 2, 1)


def test_a_coroutine_that_blocks_the_others_is_interrupted():
    message = r"'blocking' did not answer within 0.3 .*\non the batch of 4 samples"
    with pytest.raises(RewardError, match=message):
        call(quick, blocking)


def test_a_process_that_cannot_be_interrupted_ends_with_one_line():
    program = (
        "import time\n"
        "from gdpo_jax.rollouts import time_limit\n"
        "time_limit._GRACE = 0.2\n"
        "with time_limit.time_limit(0.2, 'reward \\'deaf\\''):\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(60)\n"
        "        except BaseException:\n"
        "            pass\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "error: reward 'deaf' took more than 0.2 seconds and cannot be interrupted; the same "
        "command goes on after the last checkpoint\n"
    )


def test_limits_that_cannot_be_kept_are_refused():
    with pytest.raises(UserError, match="score_timeout must be positive"):
        check_time_limit(0.0)
    with ThreadPoolExecutor(1) as other:
        with pytest.raises(UserError, match="needs a POSIX system and a run in the main thread"):
            other.submit(check_time_limit, 1.0).result()
        other.submit(check_time_limit, None).result()


def test_a_limit_that_is_not_reached_leaves_nothing_behind():
    threads = threading.active_count()
    with time_limit(60.0, "nothing"):
        pass
    assert threading.active_count() == threads
    with pytest.raises(LateError), time_limit(0.05, "a nap"):
        time.sleep(60)
