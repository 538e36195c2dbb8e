import io

from rich.console import Console

from gdpo_jax.training import Progress

COLUMNS = [("safety", "reward/safety/mean"), ("kl", "kl/k3"), ("tokens/s", "tokens_per_second")]
ROW = {"reward/safety/mean": 0.25, "tokens_per_second": 12345.6, "other": 9.0}


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def shown(*, terminal, seconds_per_step, steps=10, start_step=0):
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, force_terminal=terminal, width=100)
    progress = Progress(
        "rl",
        steps=steps,
        columns=COLUMNS,
        console=console,
        clock=clock,
    )
    with progress:
        for step in range(start_step, steps):
            clock.now += seconds_per_step
            progress.show(step, ROW)
    return stream.getvalue()


def test_elsewhere_a_line_comes_every_ten_seconds_and_at_the_end():
    lines = shown(terminal=False, seconds_per_step=2.0).splitlines()
    assert [line.split()[2] for line in lines] == ["1/10", "6/10", "10/10"]


def test_a_line_has_the_metrics_there_are_and_the_time_left():
    first = shown(terminal=False, seconds_per_step=30.0).splitlines()[1]
    assert first == "rl step 2/10  safety 0.250  tokens/s 12,346  4m00s left"


def test_the_first_step_of_a_resumed_run_is_not_counted_as_done_before():
    lines = shown(terminal=False, seconds_per_step=600.0, start_step=7).splitlines()
    assert [line.split()[-2] for line in lines] == ["20m00s", "10m00s", "0m00s"]


def test_in_a_terminal_one_table_is_redrawn():
    text = shown(terminal=True, seconds_per_step=2.0)
    assert "10/10" in text and "safety" in text and "time left" in text
    assert "\x1b[" in text
