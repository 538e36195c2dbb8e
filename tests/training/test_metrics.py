import json
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from gdpo_jax.errors import UserError
from gdpo_jax.training import MetricWriter, read_metrics


def write(workdir, steps, *, start_step=0, value=0.0):
    writer = MetricWriter(workdir, start_step=start_step)
    for step in steps:
        writer.write(step, {"loss": value})
    writer.close()


def events(folder):
    """The events of a folder's only file: records of length, checksum, body, checksum."""
    (path,) = folder.glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return found


def test_rows_and_tensorboard_events_are_written(tmp_path):
    write(tmp_path / "run", range(3), value=1.5)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == [
        {"step": step, "loss": 1.5} for step in range(3)
    ]
    points = [
        (event.step, value.tag, value.simple_value)
        for event in events(tmp_path / "run" / "tensorboard")
        for value in event.summary.value
    ]
    assert points == [(step, "loss", 1.5) for step in range(3)]


def test_the_board_drops_what_a_resumed_run_repeats(tmp_path):
    write(tmp_path, range(3, 5), start_step=3)
    header, start, *points = events(tmp_path / "tensorboard")
    assert header.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (3, SessionLog.START)
    assert [event.step for event in points] == [3, 4]


def test_a_resumed_run_has_every_step_once(tmp_path):
    write(tmp_path, range(5), value=1.0)
    write(tmp_path, range(3, 6), start_step=3, value=2.0)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["loss"]) for row in rows] == [
        (0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)
    ]  # fmt: skip


def test_a_line_cut_by_a_kill_is_dropped(tmp_path):
    write(tmp_path, range(2))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    write(tmp_path, [2], start_step=2)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1, 2]


def test_a_foreign_line_is_named_and_the_file_left_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\nhello\n{"step": 1}\n')
    with pytest.raises(UserError, match="line 2: not a JSON object with a step"):
        MetricWriter(tmp_path, start_step=1)
    assert path.read_text() == '{"step": 0}\nhello\n{"step": 1}\n'


def test_values_that_are_not_finite_become_null(tmp_path):
    write(tmp_path, [0], value=float("nan"))
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 0, "loss": None}


@pytest.mark.parametrize("last", ['{"step": 1, "lo', "{", "\0\0\0", '{"step": 1}\n{'])
def test_a_reader_gets_the_whole_rows(tmp_path, last):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n' + last)
    assert [row["step"] for row in read_metrics(path)] == list(range(1 + last.count("\n")))


def test_a_last_row_without_its_line_end_is_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"step": 1}')
    assert [row["step"] for row in read_metrics(path)] == [0, 1]
    write(tmp_path, [2], start_step=2)
    assert [row["step"] for row in read_metrics(path)] == [0, 1, 2]


@pytest.mark.parametrize("line", ["hello", "[]", "5", '{"loss": 1}', '{"step": "x"}', "", "\xff"])
def test_other_damage_is_named_with_its_line(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f'{{"step": 0}}\n{line}\n{{"step": 2}}\n'.encode("latin-1"))
    for read in (read_metrics, lambda path: MetricWriter(path.parent, start_step=1)):
        with pytest.raises(
            UserError, match=r"metrics\.jsonl, line 2: not a JSON object with a step"
        ):
            read(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be read"):
        read_metrics(tmp_path / "metrics.jsonl")
