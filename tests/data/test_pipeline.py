import itertools
import json

import numpy as np
import pytest

from gdpo_jax.data import record_batches
from gdpo_jax.errors import UserError

SOURCE = [{"id": i} for i in range(11)]


def ids(batches, count):
    return [[record["id"] for record in batch] for batch in itertools.islice(batches, count)]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def test_an_epoch_holds_every_record_at_most_once_and_drops_the_remainder():
    first = ids(record_batches(SOURCE, batch_size=4, seed=0, repeat=False), 99)
    seen = flat(first)
    assert [len(batch) for batch in first] == [4, 4]
    assert len(set(seen)) == 8 and set(seen) < set(range(11))


def test_every_epoch_has_its_own_order():
    batches = ids(record_batches(SOURCE, batch_size=4, seed=0), 6)
    epochs = [flat(batches[i : i + 2]) for i in (0, 2, 4)]
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_seed_alone_decides_the_order():
    def start(seed):
        return ids(record_batches(SOURCE, batch_size=4, seed=seed), 4)

    assert start(1) == start(1) != start(2)


def test_without_shuffling_records_come_as_stored():
    batches = record_batches(SOURCE, batch_size=4, seed=0, shuffle=False)
    assert ids(batches, 3) == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_shares_of_all_processes_make_up_the_global_batch(count):
    shares = [
        ids(
            record_batches(SOURCE, batch_size=4, seed=7, process_index=index, process_count=count),
            5,
        )
        for index in range(count)
    ]
    joined = [flat(parts) for parts in zip(*shares)]
    assert joined == ids(record_batches(SOURCE, batch_size=4, seed=7), 5)


def test_a_stored_position_continues_exactly_even_with_other_processes():
    batches = record_batches(SOURCE, batch_size=4, seed=3)
    ids(batches, 3)
    position = json.loads(json.dumps(batches.get_state()))
    expected = ids(batches, 4)
    shares = []
    for index in range(2):
        share = record_batches(SOURCE, batch_size=4, seed=3, process_index=index, process_count=2)
        share.set_state(position)
        shares.append(ids(share, 4))
    assert [first + second for first, second in zip(*shares)] == expected


def test_batches_that_do_not_divide_name_legal_sizes():
    with pytest.raises(UserError, match=r"batch of 6 records .* 4 processes; use 4, 8, 12"):
        record_batches(SOURCE, batch_size=6, seed=0, process_count=4)


def test_a_source_smaller_than_a_batch_is_refused():
    with pytest.raises(UserError, match="11 records, fewer than one batch of 12"):
        record_batches(SOURCE, batch_size=12, seed=0)


def test_a_process_outside_of_the_count_is_refused():
    with pytest.raises(UserError, match="process_index 2 is not in"):
        record_batches(SOURCE, batch_size=4, seed=0, process_index=2, process_count=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": "1"}, "seed must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 2.0}, "batch_size must be a whole number"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"process_count": 0}, "process_count must be a whole number of at least 1"),
        ({"process_index": -1}, "process_index must be a whole number of at least 0"),
        ({"process_index": 1}, r"process_index 1 is not in 0\.\.0"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(changes, message):
    with pytest.raises(UserError, match=message):
        record_batches(SOURCE, **({"batch_size": 4, "seed": 0} | changes))


@pytest.mark.parametrize("seed", [2**32 - 1, 2**32, 2**64, np.int64(7)])
def test_any_other_seed_works(seed):
    assert ids(record_batches(SOURCE, batch_size=4, seed=seed), 1)


@pytest.mark.parametrize("source", [[], "", {}])
def test_an_empty_source_is_one_error(source):
    with pytest.raises(UserError, match="the source has no records"):
        record_batches(source, batch_size=1, seed=0)


def test_a_generator_is_no_source():
    with pytest.raises(UserError, match="the source is a generator; it must have a length"):
        record_batches((i for i in [1]), batch_size=1, seed=0)


def test_records_say_what_they_are():
    def description(source=SOURCE, **changes):
        return record_batches(source, **({"batch_size": 4, "seed": 0} | changes)).describe()

    assert description() == description(process_index=1, process_count=2)
    others = [description(seed=1), description(batch_size=2), description(shuffle=False)]
    others += [description(source=[{"id": -i} for i in range(11)])]
    assert all(other != description() for other in others)
    # Objects are no JSON, and their text may differ between processes.
    assert description(source=[object()] * 4)["digest of some records"] is None


# Sorted together: three batches of four, by a number of every record.

MANY = [{"id": i} for i in range(26)]
KEYS = [i % 3 for i in range(26)]


def sorted_ids(count, **changes):
    options = {"batch_size": 4, "seed": 5, "sort_keys": KEYS, "sort_batches": 3} | changes
    return ids(record_batches(MANY, **options), count)


def test_batches_sorted_together_hold_records_of_like_keys():
    batches = sorted_ids(6)  # an epoch: two times three batches
    assert len(set(flat(batches))) == 24
    for three in (batches[:3], batches[3:]):
        keys = [[KEYS[i] for i in batch] for batch in three]
        assert sorted(flat(keys)) == flat(sorted(keys))  # cut from one sorted row
    # In an order of their own, or a run would go from short to long again and again.
    starts = {
        tuple(min(KEYS[i] for i in batch) for batch in sorted_ids(3, seed=s)) for s in range(9)
    }
    assert len(starts) > 2


def test_records_sorted_together_are_those_that_random_batches_would_hold():
    assert sorted(flat(sorted_ids(3))) == sorted(flat(sorted_ids(3, sort_batches=1)))


def test_more_batches_than_there_are_are_all_sorted_together():
    assert sorted_ids(6, sort_batches=6) == sorted_ids(6, sort_batches=1000)


def test_a_position_among_sorted_batches_continues_exactly():
    options = {"batch_size": 4, "seed": 5, "sort_keys": KEYS, "sort_batches": 3}
    batches = record_batches(MANY, **options)
    ids(batches, 8)
    position = json.loads(json.dumps(batches.get_state()))
    expected = ids(batches, 9)
    shares = []
    for index in range(2):
        share = record_batches(MANY, process_index=index, process_count=2, **options)
        share.set_state(position)
        shares.append(ids(share, 9))
    assert [flat(parts) for parts in zip(*shares)] == expected


@pytest.mark.parametrize(
    ("keys", "message"), [(None, "give them as well"), ([1, 2], "26 records have 2 sort_keys")]
)
def test_sorting_without_a_key_of_every_record_is_refused(keys, message):
    with pytest.raises(UserError, match=message):
        sorted_ids(1, sort_keys=keys)
