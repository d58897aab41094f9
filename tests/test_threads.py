"""Sharing work among threads: everything is done once, in order, and errors pass through."""

import threading

import pytest
import torch

from gpu_kmeans.backends.threads import beside, consume, parallel, sharers

pytestmark = pytest.mark.usefixtures("threads")


@pytest.fixture(params=[1, 2, 5], ids="threads{}".format)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_every_piece_is_done_once_and_answers_come_in_order(count):
    done = []

    def square(i):
        done.append(i)
        return i * i

    assert parallel(square, range(count)) == [i * i for i in range(count)]
    assert sorted(done) == list(range(count))


def test_what_a_piece_raises_passes_through_when_nobody_works_any_more():
    working, lock = [0], threading.Lock()

    def work(i):
        with lock:
            working[0] += 1
        try:
            if i == 3:
                raise ValueError("the fourth")
        finally:
            with lock:
                working[0] -= 1

    with pytest.raises(ValueError, match="the fourth"):
        parallel(work, range(50))
    assert working == [0]


def test_a_piece_may_share_its_own_work():
    def outer(i):
        return sum(parallel(lambda j: i * j, range(10)))

    assert parallel(outer, range(20)) == [45 * i for i in range(20)]


def test_a_piece_of_shared_work_stays_on_its_thread():
    def outer(_):
        here = threading.get_ident()
        return sharers() == 1 and set(parallel(lambda _: threading.get_ident(), range(9))) == {here}

    if torch.get_num_threads() > 1:
        assert all(parallel(outer, range(8)))
        assert all(consume(outer, iter(range(8))))
    assert sharers() == torch.get_num_threads()


def test_several_may_call_at_once():
    answers = {}

    def call(name):
        answers[name] = parallel(lambda i: name + i, range(200))

    callers = [threading.Thread(target=call, args=(1000 * n,)) for n in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert answers == {1000 * n: [1000 * n + i for i in range(200)] for n in range(4)}


def test_what_comes_is_consumed_in_order_while_more_is_made():
    assert consume(lambda i: 2 * i, (i for i in range(100))) == [2 * i for i in range(100)]
    assert consume(lambda i: 2 * i, iter(())) == []


def test_nobody_consumes_any_more_once_making_or_consuming_has_failed():
    working = []

    def work(i):
        working.append(i)
        if i == 5:
            raise ValueError("the sixth")
        working.remove(i)

    def make():
        yield from range(3)
        raise OSError("no more")

    with pytest.raises(ValueError, match="the sixth"):
        consume(work, range(30))
    assert working == [5]
    working.clear()
    with pytest.raises(OSError, match="no more"):
        consume(work, make())
    assert working == []


def test_half_of_the_threads_share_work_beside_other_work_until_that_is_done():
    done, every = [False], torch.get_num_threads()

    with beside(lambda: done[0]):
        before = sharers()
        done[0] = True
        after = sharers()

    assert (before, after, sharers()) == (max(1, every // 2), every, every)
