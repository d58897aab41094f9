"""The bounds of what is under way, with plain numbers and a clock of our own."""

from collections import deque
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
import pytest

from app.admission import CLIENT, Admission, AdmissionLimits
from app.errors import NotReady, QueueFull


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def admission(clock):
    limits = AdmissionLimits(max_jobs=4, max_client_jobs=2, max_pixels=100, max_upload_bytes=1000)
    return Admission(limits, clock)


def test_one_job_too_many_is_refused(admission):
    with ExitStack() as held:
        for client in "abcd":
            held.enter_context(admission.job(client))

        with pytest.raises(QueueFull) as refused, admission.job("e"):
            pass

    assert refused.value.members["limit_jobs"] == 4
    assert admission.shed == {"jobs": 1}


def test_one_client_takes_its_share_only(admission):
    with admission.job("a"), admission.job("a"):
        with pytest.raises(QueueFull, match="of this client"):
            admission.check("a")
        with admission.job("b"):
            assert admission.jobs == 3


def test_a_place_is_free_again_however_the_job_ended(admission):
    def fail():
        with admission.job("a"):
            raise KeyError

    for _ in range(5):
        with pytest.raises(KeyError):
            fail()

    assert admission.jobs == 0
    admission.check("a")


@contextmanager
def picture_of(client, admission, n_pixels):
    CLIENT.set(client)
    with admission.picture(n_pixels):
        yield


def test_pixels_under_way_are_bounded(admission):
    with picture_of("a", admission, 50), picture_of("b", admission, 50):
        assert admission.pixels == 100
        with pytest.raises(QueueFull, match="100 pixels"), picture_of("c", admission, 1):
            pass

    assert admission.pixels == 0


def test_one_client_has_half_of_the_pixels(admission):
    with picture_of("a", admission, 40), picture_of("a", admission, 10):
        with pytest.raises(QueueFull, match="50 pixels of this client"):
            picture_of("a", admission, 1).__enter__()
        with picture_of("b", admission, 50):
            assert admission.pixels == 100


def test_it_says_beforehand_whether_there_is_room(admission):
    assert admission.has_room(500)
    with picture_of("a", admission, 40):
        CLIENT.set("a")
        assert admission.has_room(10)
        assert not admission.has_room(11)
    assert admission.shed == {}


def test_one_picture_is_let_in_however_large(admission):
    with admission.picture(500):
        assert admission.pixels == 500


def test_bytes_of_uploads_are_bounded_until_forgotten(admission):
    for client in "ab":
        CLIENT.set(client)
        admission.receive(500)
    CLIENT.set("c")
    with pytest.raises(QueueFull, match="uploads"):
        admission.receive(1)

    CLIENT.set("b")
    admission.forget(500)
    admission.receive(250)
    CLIENT.set("a")
    with pytest.raises(QueueFull, match="500 bytes of this client"):
        admission.receive(1)


def test_a_stopping_service_takes_nothing(admission):
    admission.is_open = False

    with pytest.raises(NotReady):
        admission.check("a")


def test_the_time_to_wait_is_that_of_what_is_under_way(admission, clock):
    for _ in range(100):  # jobs that take 3 seconds, one after the other
        with admission.job("a"):
            clock.now += 3

    with ExitStack() as held:
        for client in "abcd":
            held.enter_context(admission.job(client))

        assert admission.retry_after_s() == 12


def test_jobs_that_are_computed_side_by_side_count_as_fast_as_they_end(admission, clock):
    for _ in range(100):  # two at a time, 4 seconds each: one every 2 seconds
        with admission.job("a"), admission.job("b"):
            clock.now += 4

    with admission.job("a"), admission.job("b"), admission.job("c"):
        assert 5 <= admission.retry_after_s() <= 8


def test_nobody_is_told_to_come_back_next_year(admission, clock):
    with admission.job("a"):
        clock.now += 10**7

    with admission.job("a"):
        assert admission.retry_after_s() == 60


def answer_pictures(admission, clock, n_pixels, seconds):
    for _ in range(50):
        with picture_of("a", admission, n_pixels):
            clock.now += seconds


def test_a_picture_that_would_not_be_answered_in_time_is_refused_at_once(clock):
    admission = Admission(AdmissionLimits(max_pixels=10**9, max_wait_s=60), clock)
    answer_pictures(admission, clock, 12_000_000, seconds=12)

    with picture_of("a", admission, 12_000_000), picture_of("b", admission, 36_000_000):
        with pytest.raises(QueueFull, match="60 seconds of work") as refused:
            picture_of("c", admission, 24_000_000).__enter__()
        assert 45 <= refused.value.members["retry_after_s"] <= 50
        with picture_of("d", admission, 10_000_000):
            pass
    with picture_of("c", admission, 200_000_000):
        assert admission.shed == {"seconds": 1}


def overloaded(slowness):
    """Serve one picture after another, one of ten slowly, while more come than can be served.

    Gives how long each that was let in took.
    """
    clock = Clock()
    limits = AdmissionLimits(max_jobs=10**6, max_pixels=10**9, max_wait_s=5.4)
    admission = Admission(limits, clock)
    is_slow, waiting, taken = np.random.default_rng(0).random(5000) < 0.1, deque(), []
    for i in range(5000):
        held = ExitStack()
        CLIENT.set(f"{i}")  # each its own, as no share is in question here
        with suppress(QueueFull):
            held.enter_context(admission.picture(400_000))
            waiting.append((clock.now, held))
        if i % 5 == 0 and waiting:  # five come while one is served
            clock.now += slowness if is_slow[i] else 0.2
            entered_at, held = waiting.popleft()
            held.close()
            taken.append(clock.now - entered_at)
    return sorted(taken[200:])


@pytest.mark.parametrize("slowness", [0.2, 0.3, 0.4, 0.5, 0.6])
def test_under_overload_nearly_all_that_is_let_in_is_answered_in_time(slowness):
    taken = overloaded(slowness)

    assert taken[int(0.99 * len(taken))] <= 6.0  # a ninth more than was expected
    assert taken[len(taken) // 2] > 2.0  # and the queue is used, not left empty


def test_small_pictures_do_not_make_a_large_one_look_slow(clock):
    admission = Admission(AdmissionLimits(max_pixels=10**9, max_wait_s=60), clock)
    answer_pictures(admission, clock, 1, seconds=0.01)

    with picture_of("a", admission, 50_000_000), picture_of("b", admission, 50_000_000):
        assert not admission.shed


def test_pictures_given_up_say_that_they_take_longer(clock):
    admission = Admission(AdmissionLimits(max_pixels=10**9, max_wait_s=60), clock)

    def give_up(after_s):
        with picture_of("a", admission, 12_000_000):
            clock.now += after_s
            raise TimeoutError

    for after_s in [60] * 50 + [0] * 50:  # past the deadline; clients that left
        with pytest.raises(TimeoutError):
            give_up(after_s)

    with picture_of("a", admission, 12_000_000), pytest.raises(QueueFull):
        picture_of("b", admission, 12_000_000).__enter__()


def test_who_was_refused_says_nothing_of_the_time_to_wait(admission, clock):
    for _ in range(100):
        with admission.job("a"):
            clock.now += 3
    for _ in range(100):
        with picture_of("a", admission, 50), admission.job("b"), pytest.raises(QueueFull):
            picture_of("a", admission, 1).__enter__()

    with admission.job("a"):
        assert admission.retry_after_s() == 3
