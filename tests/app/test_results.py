"""Answers that are kept: the same question is computed once, and can be asked for by its name."""

import asyncio

import pytest
from fastapi.testclient import TestClient
from pictures import decoded, encoded, noise
from pydantic import BaseModel

from app.main import create_app
from app.results import ResultCache
from app.settings import Settings

PICTURE = encoded(noise(8, 8))


class Words(BaseModel):
    text: str


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def ask(cache, question, body=b"body", text="x" * 80):
    async def compute():
        return Words(text=text)

    return asyncio.run(cache.answer(question, body, Words, compute))


@pytest.fixture
def cache():
    return ResultCache(max_bytes=1000, ttl_s=10, clock=Clock())


def test_the_same_question_is_answered_once(cache):
    first, second = ask(cache, "a"), ask(cache, "a", text="another")

    assert (first.key, first.json) == (second.key, second.json)
    assert first.fresh
    assert not second.fresh
    assert second.answer == first.answer
    assert (cache.hits, cache.misses) == (1, 1)


@pytest.mark.parametrize(("question", "body"), [("b", b"body"), ("a", b"another body")])
def test_another_question_has_another_answer(cache, question, body):
    assert ask(cache, "a").key != ask(cache, question, body).key


def test_a_large_body_has_the_same_key_each_time(cache):
    assert ask(cache, "a", bytes(2**21)).key == ask(cache, "a", bytes(2**21)).key


def test_two_caches_name_the_same_answer_differently(cache):
    assert ask(cache, "a").key != ask(ResultCache(max_bytes=1000, ttl_s=10), "a").key


def test_the_oldest_unused_answers_go_first_and_the_bytes_are_bounded(cache):
    keys = [ask(cache, str(i)).key for i in range(10)]
    cache.get(keys[0])
    for i in range(10, 19):
        ask(cache, str(i))

    assert cache.n_bytes <= 1000
    assert cache.get(keys[0])
    assert cache.get(keys[1]) is None


def test_an_answer_is_forgotten_in_time(cache):
    key = ask(cache, "a").key
    cache.clock.now = 11

    assert cache.get(key) is None
    assert cache.n_bytes == 0


def test_an_answer_that_would_push_out_most_others_is_not_kept(cache):
    assert cache.get(ask(cache, "a", text="x" * 600).key) is None


def test_a_failure_is_not_kept(cache):
    async def fail():
        raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(cache.answer("a", b"", Words, fail))

    assert cache.n_bytes == 0


def test_a_second_request_is_answered_from_what_is_kept(client):
    first = client.post("/compress?k=3&seed=77", content=PICTURE)
    second = client.post("/compress?k=3&seed=77", files={"file": PICTURE})

    assert first.content == second.content
    assert first.headers["etag"] == second.headers["etag"]
    assert first.headers["server-timing"].startswith("queue;dur=")
    assert second.headers["server-timing"] == "kept"


def test_an_answer_can_be_had_again_by_its_name(client):
    answer = client.post("/compress?k=3&seed=78", content=PICTURE)
    again = client.get(answer.headers["content-location"])

    assert again.json() == answer.json()
    assert again.headers["etag"] == answer.headers["etag"]
    assert "immutable" in again.headers["cache-control"]


def test_the_picture_can_be_had_by_the_name_of_its_answer(client):
    answer = client.post("/compress?k=3&seed=79", content=PICTURE)
    picture = client.get(answer.headers["content-location"], headers={"accept": "image/*"})

    assert picture.headers["content-type"] == "image/png"
    assert (decoded(picture.content) == decoded(answer.json()["image"]["data"])).all()
    assert picture.headers["etag"] != answer.headers["etag"]


def test_a_picture_answer_names_its_json(client):
    picture = client.post("/compress?k=3", content=PICTURE, headers={"accept": "image/png"})
    answer = client.get(picture.headers["content-location"]).json()

    assert (decoded(picture.content) == decoded(answer["image"]["data"])).all()
    assert str(answer["k"]) == picture.headers["x-k"]


def test_who_has_an_answer_already_gets_304(client):
    answer = client.post("/palette?k=3", content=PICTURE)
    location, etag = answer.headers["content-location"], answer.headers["etag"]

    unchanged = client.get(location, headers={"if-none-match": f'"other", {etag}'})
    changed = client.get(location, headers={"if-none-match": '"other"'})
    anything = client.get(location, headers={"if-none-match": "*"})

    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["content-location"] == location
    assert anything.status_code == 304
    assert changed.status_code == 200


def test_nothing_kept_under_a_name_is_not_found(client):
    response = client.get("/results/0123")

    assert (response.status_code, response.json()["code"]) == (404, "not-found")


def test_a_cache_of_no_bytes_keeps_nothing():
    with TestClient(create_app(Settings(result_cache_bytes=0))) as client:
        answer = client.post("/palette?k=2", content=PICTURE)

        assert client.get(answer.headers["content-location"]).status_code == 404


async def asked_at_once(cache, compute, n=3):
    questions = [cache.answer("a", b"", Words, compute) for _ in range(n)]
    return await asyncio.gather(*questions, return_exceptions=True)


def test_a_question_asked_by_several_at_once_is_computed_once(cache):
    computed = []

    async def compute():
        computed.append(0)
        await asyncio.sleep(0.01)
        return Words(text="x" * 2000)  # too long to be kept

    answers = asyncio.run(asked_at_once(cache, compute))

    assert len({answer.json for answer in answers}) == len(computed) == 1
    assert (cache.hits, cache.misses) == (2, 1)


def test_whoever_waits_for_one_that_fails_or_leaves_computes_it_itself(cache):
    computed = []

    async def compute():
        computed.append(0)
        await asyncio.sleep(0.01)
        if len(computed) == 1:
            raise KeyError
        if len(computed) == 2:
            raise asyncio.CancelledError
        return Words(text="")

    first, second, third = asyncio.run(asked_at_once(cache, compute))

    assert isinstance(first, KeyError)
    assert isinstance(second, asyncio.CancelledError)
    assert third.answer == Words(text="")


def test_where_nothing_is_kept_nothing_is_shared():
    cache, computed = ResultCache(max_bytes=0, ttl_s=10), []

    async def compute():
        computed.append(0)
        await asyncio.sleep(0.01)
        return Words(text="")

    asyncio.run(asked_at_once(cache, compute))

    assert len(computed) == 3
