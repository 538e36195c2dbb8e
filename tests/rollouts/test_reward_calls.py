"""Calling reward functions: their own copies of the data, async ones together, failures named."""

import asyncio
import collections
import os
import signal
import threading
import time

import numpy as np
import pytest

from gdpo_jax.rollouts import Completion, RewardError, named_reward, score


def call(functions, texts=("a", "bb"), records=None):
    completions = [Completion(text, (0,), ((0, len(text)),), True) for text in texts]
    records = [{}] * len(texts) if records is None else records
    return score(functions, completions, records, num_prompts=1, num_samples=len(texts))


def column(batch, index=0):
    return batch.values[0, :, index].tolist()


def test_what_a_function_changes_reaches_neither_the_data_nor_another_function():
    shared = {"words": ["x", ("y", ["z"])], "count": np.zeros(2), "tags": collections.Counter("a")}
    records = [shared, shared]

    def greedy(completions, records):
        for record in records:
            record["words"].append("w")
            record["words"][1][1].clear()
            record["count"] += 1
            record["tags"].clear()
            record["new"] = 1
        completions.reverse()
        completions.pop()
        records.pop()
        return [0.0, 0.0]

    def careful(completions, records):
        assert records[0] is records[1]
        assert [each.text for each in completions] == ["a", "bb"]
        return [float(len(each["words"]) + len(each["words"][1][1])) for each in records]

    batch = call([greedy, careful], records=records)
    assert column(batch, 1) == [3.0, 3.0]
    assert shared["words"] == ["x", ("y", ["z"])] and not shared["count"].any()
    assert shared["tags"] == {"a": 1} and set(shared) == {"words", "count", "tags"}


def test_an_object_that_cannot_be_copied_is_handed_over_as_it_is():
    lock = threading.Lock()

    def same(completions, records):
        return [float(each["lock"] is lock) for each in records]

    assert column(call([same], records=[{"lock": lock}] * 2)) == [1.0, 1.0]


def test_async_functions_wait_at_the_same_time_and_sync_ones_run_in_order():
    seen, both = [], asyncio.Barrier(2)

    def reward(name):
        async def waits(completions, records):
            seen.append(name)
            await both.wait()  # passes only when both are here
            return [len(each.text) for each in completions]

        waits.name = name
        return waits

    def first(completions, records):
        seen.append("first")
        return [0.0, 0.0]

    def second(completions, records):
        seen.append("second")
        return [9.0, 9.0]

    batch = call([reward("left"), first, reward("right"), second])
    assert batch.names == ("left", "first", "right", "second")
    assert batch.values[0].tolist() == [[1, 0, 1, 9], [2, 0, 2, 9]]
    assert seen[:2] == ["first", "second"] and set(seen[2:]) == {"left", "right"}


def test_async_calls_work_where_an_event_loop_runs():
    async def judge(completions, records):
        await asyncio.sleep(0)
        return [1.0, 2.0]

    async def notebook():
        return call([judge])

    assert column(asyncio.run(notebook())) == [1.0, 2.0]


def test_locks_and_clients_of_one_call_serve_the_next():
    """A semaphore belongs to the loop in which somebody first had to wait for it."""
    limit = asyncio.Semaphore(1)

    async def judge(completions, records):
        async def one(completion):
            async with limit:
                await asyncio.sleep(0)
            return float(len(completion.text))

        return await asyncio.gather(*map(one, completions))

    async def notebook():
        return call([judge])

    assert column(call([judge])) == column(call([judge])) == [1.0, 2.0]
    assert column(asyncio.run(notebook())) == [1.0, 2.0]


def test_a_call_within_a_call_ends():
    async def inner(completions, records):
        await asyncio.sleep(0)
        return [3.0, 3.0]

    async def outer(completions, records):
        return column(call([inner]))

    assert column(call([outer])) == [3.0, 3.0]


@pytest.mark.parametrize("error", [KeyError("bb"), asyncio.CancelledError(), TimeoutError()])
def test_an_async_function_that_raises_is_named_and_the_others_end(error):
    ended = []

    async def slow(completions, records):
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append("slow")

    async def fragile(completions, records):
        await asyncio.sleep(0.01 if len(completions) > 1 else 0)
        if any(each.text == "bb" for each in completions):
            raise error
        return [0.0 for _ in completions]

    def late():
        slow_one, threads = named_reward(slow), threading.active_count()
        start = time.monotonic()
        with pytest.raises(RewardError) as caught:
            call([slow_one, fragile])
        assert time.monotonic() - start < 30 and threading.active_count() == threads
        return caught.value

    raised = late()
    assert ended == ["slow"] and isinstance(raised.__cause__, type(error))
    for part in ("'fragile'", type(error).__name__, "sample 1 of 2", "'bb'"):
        assert part in str(raised)


def test_an_async_function_that_fails_on_the_whole_batch_only_says_so():
    async def together(completions, records):
        if len(completions) > 1:
            raise MemoryError("too many")
        return [0.0]

    with pytest.raises(RewardError, match="on the batch of 2 samples, though on none of them"):
        call([together])


def test_a_sync_failure_ends_coroutines_that_have_not_begun():
    """The tests turn the warning about coroutines that nobody awaits into an error."""
    begun = []

    async def judge(completions, records):
        begun.append(1)
        return [0.0, 0.0]

    def broken(completions, records):
        raise OSError("no file")

    with pytest.raises(RewardError, match="'broken' raised OSError: no file"):
        call([judge, broken])
    assert begun == []


def test_tasks_that_a_function_leaves_behind_are_ended():
    ended = []

    async def forever():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    async def careless(completions, records):
        careless.task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        return [0.0, 0.0]

    call([careless])
    assert ended == [1]


def test_an_async_answer_is_checked_like_any_other():
    async def wrong(completions, records):
        return {0: 1.0, 1: 0.0}

    with pytest.raises(RewardError, match="'wrong' returned <class 'dict'>"):
        call([wrong])


def test_an_error_whose_text_raises_is_still_reported():
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    def mute(completions, records):
        raise MuteError

    with pytest.raises(RewardError, match=r"'mute' raised MuteError: \(its text.*\n.*sample 0 of"):
        call([mute])


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_failure_of_a_reward(leaving):
    def stopped(completions, records):
        raise leaving

    async def stopped_later(completions, records):
        await asyncio.sleep(0)
        raise leaving

    async def waiting(completions, records):
        await asyncio.sleep(60)

    with pytest.raises(leaving):
        call([stopped])
    with pytest.raises(leaving):
        call([waiting, stopped_later])
    assert column(call([named_reward(len_of)])) == [1.0, 2.0]


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal; a background job of a shell begins with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_while_an_event_loop_waits_ends_the_calls(interruptible):
    ended = []

    async def waiting(completions, records):
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    async def notebook():
        call([waiting])

    loop = asyncio.new_event_loop()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(notebook())
    loop.close()
    assert ended == [1]


async def len_of(completions, records):
    return [float(len(each.text)) for each in completions]
