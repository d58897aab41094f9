"""The waiting room, tried with plain integers: a job is its own cost."""

import asyncio

import pytest

from app.batcher import Batcher
from app.errors import NotReady


class Engine:
    """Doubles numbers once it is told to go on; notes what came together, and with what share."""

    def __init__(self):
        self.batches, self.shares = [], []
        self.go_on = asyncio.Event()

    async def run(self, tickets, share):
        self.batches.append([ticket.job for ticket in tickets])
        self.shares.append(share)
        await self.go_on.wait()
        return [ValueError(ticket.job) if ticket.job < 0 else 2 * ticket.job for ticket in tickets]


def batcher_of(engine, **options):
    return Batcher(engine.run, abs, **({"max_batch_jobs": 10, "max_batch_pixels": 10} | options))


async def submit(batcher, *jobs):
    """Ask for jobs in this order and let the batcher see them."""
    tasks = []
    for job in jobs:
        tasks.append(asyncio.create_task(batcher.submit(job)))
        await asyncio.sleep(0.001)
    return tasks


def run(test):
    """Run a coroutine function with an engine of its own."""
    asyncio.run(test(Engine()))


def test_jobs_that_come_while_the_engine_is_busy_go_together_up_to_the_budget():
    async def test(engine):
        tasks = await submit(batcher_of(engine), 1, 2, 3, 4, 5)
        engine.go_on.set()

        assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10]
        assert engine.batches == [[1], [2, 3, 4], [5]]

    run(test)


def test_the_first_job_waits_for_company_that_comes_soon():
    async def test(engine):
        engine.go_on.set()
        tasks = await submit(batcher_of(engine, wait_s=0.5, max_batch_jobs=3), 1, 2, 3)

        assert await asyncio.gather(*tasks) == [2, 4, 6]
        assert engine.batches == [[1, 2, 3]]

    run(test)


def test_no_company_is_waited_for_longer_than_said():
    async def test(engine):
        engine.go_on.set()
        (task,) = await submit(batcher_of(engine, wait_s=0.01), 1)

        assert await task == 2

    run(test)


def test_a_large_job_has_the_whole_engine_to_itself():
    async def test(engine):
        tasks = await submit(batcher_of(engine, lanes=2, max_batch_jobs=1), 1, 50, 2)
        assert engine.batches == [[1]]  # the large one waits for both lanes, the next one behind it
        engine.go_on.set()

        assert await asyncio.gather(*tasks) == [2, 100, 4]
        assert engine.batches == [[1], [50], [2]]
        assert engine.shares[1] == 1.0

    run(test)


def test_lanes_share_the_engine_once_there_is_more_than_one_job():
    async def test(engine):
        tasks = await submit(batcher_of(engine, lanes=2, max_batch_jobs=1), 1, 2, 3)
        assert engine.batches == [[1], [2]]
        engine.go_on.set()
        await asyncio.gather(*tasks)

        assert engine.shares[:2] == [1.0, 0.5]

    run(test)


def test_a_lane_that_is_done_has_its_next_job_where_the_engine_takes_one_ahead():
    async def test(engine):
        batcher = batcher_of(engine, lanes=2, ahead=1, max_batch_jobs=1)
        tasks = await submit(batcher, 1, 2, 3, 4)
        assert engine.batches == [[1], [2], [3]]
        assert batcher.n_waiting == 1
        engine.go_on.set()
        await asyncio.gather(*tasks)

        assert engine.shares[:3] == [1.0, 0.5, 0.5]

    run(test)


def test_a_large_job_waits_for_what_was_given_ahead_too():
    async def test(engine):
        tasks = await submit(batcher_of(engine, lanes=2, ahead=1, max_batch_jobs=1), 1, 2, 3, 50)
        assert engine.batches == [[1], [2], [3]]
        engine.go_on.set()

        assert await asyncio.gather(*tasks) == [2, 4, 6, 100]
        assert engine.batches == [[1], [2], [3], [50]]

    run(test)


def test_a_bad_job_fails_alone():
    async def test(engine):
        engine.go_on.set()
        tasks = await submit(batcher_of(engine, wait_s=0.5, max_batch_jobs=3), 1, -2, 3)
        results = await asyncio.gather(*tasks, return_exceptions=True)

        assert [results[0], results[2]] == [2, 6]
        assert isinstance(results[1], ValueError)

    run(test)


def test_an_engine_that_breaks_fails_its_batch_and_goes_on():
    async def test(engine):
        async def broken(_tickets, _share):
            raise RuntimeError

        batcher = Batcher(broken, abs, max_batch_pixels=10)
        for _ in range(3):
            with pytest.raises(RuntimeError):
                await batcher.submit(1)
        assert not engine.batches

    run(test)


def test_a_job_nobody_waits_for_is_not_begun():
    async def test(engine):
        tasks = await submit(batcher_of(engine, max_batch_jobs=1), 1, 2, 3)
        tasks[1].cancel()
        engine.go_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)

        assert engine.batches == [[1], [3]]

    run(test)


def test_a_job_under_way_learns_that_nobody_waits():
    async def test(_engine):
        seen = []

        async def wait_until_unwanted(tickets, _share):
            while tickets[0].is_wanted:  # noqa: ASYNC110 - what an engine's thread does
                await asyncio.sleep(0.001)
            seen.append(tickets[0].job)
            return [None]

        batcher = Batcher(wait_until_unwanted, abs, max_batch_pixels=10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.submit(1), 0.02)
        await asyncio.sleep(0.02)

        assert seen == [1]

    run(test)


def test_whoever_waits_when_the_service_stops_learns_it():
    async def test(engine):
        batcher = batcher_of(engine, max_batch_jobs=1)
        tasks = await submit(batcher, 1, 2)
        batcher.close()
        engine.go_on.set()
        first, second = await asyncio.gather(*tasks, return_exceptions=True)

        assert first == 2  # it was under way
        assert isinstance(second, NotReady)

    run(test)
