"""Lanes: what a process computes is what a thread does, and what becomes of it when one dies."""

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from servers import wait_until

from app.engine import Engine
from app.errors import BadParameter, DeviceUnavailable
from app.jobs import ClusterJob, QuantizeJob
from app.lanes import LaneProcess, OwnLane, UnwantedError
from app.pipes import LENGTH
from gpu_kmeans import OptionError

CPU = torch.device("cpu")
PATIENCE_S = 60  # how long a test that would otherwise hang waits before it fails


@pytest.fixture(scope="module")
def lane():
    """A process of its own."""
    started = LaneProcess(os.getpriority(os.PRIO_PROCESS, 0))
    yield started
    started.close()


def run(lane, job, is_wanted=lambda: True):
    return lane.run(job, CPU, "cpu", 1, is_wanted)


def kill(lane):
    os.kill(lane._process._popen.pid, signal.SIGKILL)


@pytest.mark.parametrize("options", [{"k": 16}, {"k": 8, "space": "oklab", "dither": 0.6}])
def test_a_process_computes_what_a_thread_does(lane, photo, options):
    job = QuantizeJob(pixels=photo, options=options)

    one, other = run(OwnLane(), job), run(lane, job)

    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.palette, other.palette)
    assert (one.wcss, one.n_iter, one.k_reason) == (other.wcss, other.n_iter, other.k_reason)


def test_what_the_library_refuses_comes_back_as_it_was(lane, photo):
    with pytest.raises(OptionError) as refused:
        run(lane, QuantizeJob(pixels=photo, options={"k": 0}))

    assert refused.value.name == "k"


@pytest.mark.parametrize("is_beside", [True, False])
def test_what_nobody_wants_ends_and_the_next_job_does_not_notice(lane, photo, is_beside):
    large, chosen = np.tile(photo, (8, 8, 1)), lane if is_beside else OwnLane()

    with pytest.raises(UnwantedError):
        run(chosen, QuantizeJob(pixels=large, options={"k": 256, "refine": 2}), bool)

    assert run(chosen, QuantizeJob(pixels=photo, options={"k": 3})).k == 3


def test_a_word_that_comes_too_late_is_not_taken_for_a_job(lane):
    lane.start()
    lane._process._send(LENGTH.pack(0))

    result = run(lane, ClusterJob(points=np.array([[0.0], [1.0], [8.0], [9.0]]), k=2))

    assert sorted(result.centroids[:, 0]) == [0.5, 8.5]


def test_a_process_that_was_killed_is_replaced_and_its_job_done(lane, photo):
    lane.start()
    before = lane._process
    kill(lane)

    assert run(lane, QuantizeJob(pixels=photo, options={"k": 4})).k == 4
    assert lane._process is not before


def test_a_job_that_kills_its_process_again_and_again_is_given_up(photo):
    lane = LaneProcess(os.getpriority(os.PRIO_PROCESS, 0))
    job = QuantizeJob(pixels=np.tile(photo, (8, 8, 1)), options={"k": 256, "refine": 2})

    def kill_it():
        if lane._process is not None:
            kill(lane)
        return True

    with pytest.raises(DeviceUnavailable, match="again and again"):
        run(lane, job, kill_it)

    assert lane.deaths == 3
    lane.close()


@pytest.mark.parametrize("rows", [1, 40])  # the latter more than a pipe takes
def test_a_process_that_hangs_is_killed_once_nobody_wants_its_job(lane, photo, rows):
    job = QuantizeJob(pixels=np.tile(photo, (rows, 1, 1)), options={"k": 4})
    assert run(lane, job).k == 4
    os.kill(lane._process._popen.pid, signal.SIGSTOP)

    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(run, lane, job, bool)
        wait_until(lambda: lane._is_wanted is not None)
        lane.look(5.0)
        assert not hung.done()
        lane.look(6.0)
        with pytest.raises(UnwantedError):
            hung.result(PATIENCE_S)

    assert run(lane, job).k == 4


def test_where_no_process_comes_up_a_job_is_computed_here(photo, monkeypatch):
    monkeypatch.setattr("app.lanes.MODULE", "app.no_such_module")
    lane, told = LaneProcess(os.getpriority(os.PRIO_PROCESS, 0)), []
    job = QuantizeJob(pixels=photo, options={"k": 4}, on_progress=told.append)

    assert run(lane, job).k == 4
    assert told
    lane.close()


def test_a_lane_that_was_closed_starts_no_other_process(photo):
    lane = LaneProcess(os.getpriority(os.PRIO_PROCESS, 0))
    lane.start()

    lane.close()

    with pytest.raises(DeviceUnavailable):
        run(lane, QuantizeJob(pixels=photo, options={"k": 4}))
    assert lane._process is None


def test_an_engine_uses_its_lanes_the_first_one_first(photo):
    engine = Engine(processes=1)

    async def compute():
        await engine.warm_up()
        jobs = [QuantizeJob(pixels=photo, options={"k": k}) for k in (3, 4, 0, 5)]
        return await asyncio.gather(*map(engine.submit, jobs), return_exceptions=True)

    found = asyncio.run(compute())

    assert engine.lanes == 2
    assert engine.is_ready
    assert isinstance(found[2], BadParameter)
    assert [one.result.k for one in (found[0], found[1], found[3])] == [3, 4, 5]
    assert engine.deaths == 0
    process = engine._lanes[1]._process._popen
    engine.close()
    wait_until(lambda: process.poll() is not None)
