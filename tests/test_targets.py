"""The search for k: it ends at the right one, in few tries, whatever the estimates are worth."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gpu_kmeans.targets import Targets, search_k


def drive(search, lack):
    tried = [next(search)]
    try:
        while True:
            tried.append(search.send(lack(tried[-1])))
    except StopIteration as end:
        return end.value, tried


@given(
    enough=st.integers(1, 257),
    first=st.integers(-3, 400),
    error=st.floats(0.2, 5),
    data=st.data(),
)
def test_the_search_ends_between_the_last_k_that_is_not_enough_and_the_first_that_is(
    enough, first, error, data
):
    def lack(k):
        wrong = data.draw(st.floats(1 / (1 + error), 1 + error))
        return wrong * math.log2(enough / k) if k < enough else -wrong * math.log2(k / enough)

    found, tried = drive(search_k(1, 256, first), lack)

    assert found == (enough - 1, enough)
    assert len(set(tried)) == len(tried)
    assert all(1 <= k <= 256 for k in tried)


@given(st.integers(1, 256))
def test_good_estimates_need_few_tries(enough):
    _found, tried = drive(search_k(1, 256, 32), lambda k: math.log2(enough / k))

    assert len(tried) <= 6


@given(st.integers(1, 257))
def test_estimates_that_say_nothing_cost_a_bisection(enough):
    _found, tried = drive(search_k(1, 256, 32), lambda k: 1e-3 if k < enough else -1e-3)

    assert len(tried) <= 24


def test_an_exact_picture_lacks_nothing():
    assert Targets(min_psnr=99.0, min_quality=50.0).lack(None, 100.0) < 0
    assert drive(search_k(1, 256, 32), lambda k: -math.inf if k > 2 else 1.0)[0] == (2, 3)
