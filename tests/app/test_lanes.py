"""Lanes: what a process computes is what a thread does, and what becomes of it when one dies."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import torch
from servers import wait_until

from app.batcher import Ticket
from app.engine import Engine
from app.errors import BadParameter, DeviceUnavailable
from app.jobs import ClusterJob, QuantizeJob
from app.lanes import LaneProcess, OwnLane, UnwantedError
from app.nursery import Nursery
from app.parcels import WORD
from gpu_kmeans import OptionError

CPU = torch.device("cpu")
PATIENCE_S = 60  # how long a test that would otherwise hang waits before it fails


@pytest.fixture(scope="module")
def nursery():
    """Warm once; `niceness` is told for it, as it cannot become less nice."""
    started = Nursery(os.getpriority(os.PRIO_PROCESS, 0))
    yield started
    started.close()


@pytest.fixture
def lane(nursery):
    """A process of its own."""
    started = LaneProcess(nursery)
    yield started
    started.close()


def run(lane, job, is_wanted=lambda: True):
    return lane.run(job, CPU, "cpu", 1, is_wanted)


def kill(lane):
    os.kill(lane._child.pid, signal.SIGKILL)


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
    lane.come_up()._send(WORD)

    result = run(lane, ClusterJob(points=np.array([[0.0], [1.0], [8.0], [9.0]]), k=2))

    assert sorted(result.centroids[:, 0]) == [0.5, 8.5]


def test_a_process_that_was_killed_is_replaced_and_its_job_done(lane, photo):
    before = lane.come_up()
    kill(lane)

    assert run(lane, QuantizeJob(pixels=photo, options={"k": 4})).k == 4
    assert lane._child is not before


def test_a_job_that_kills_its_process_again_and_again_is_given_up(lane, photo):
    job = QuantizeJob(pixels=np.tile(photo, (8, 8, 1)), options={"k": 256, "refine": 2})

    def kill_it():
        if lane._child is not None:
            kill(lane)
        return True

    with pytest.raises(DeviceUnavailable, match="again and again"):
        run(lane, job, kill_it)

    assert lane.deaths == 3


@pytest.mark.parametrize("rows", [1, 40])  # the latter more than a pipe takes
def test_a_process_that_hangs_is_killed_once_nobody_wants_its_job(lane, photo, rows):
    job = QuantizeJob(pixels=np.tile(photo, (rows, 1, 1)), options={"k": 4})
    assert run(lane, job).k == 4
    os.kill(lane._child.pid, signal.SIGSTOP)

    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(run, lane, job, bool)
        wait_until(lambda: lane._is_wanted is not None)
        lane.look(5.0)
        assert not hung.done()
        lane.look(6.0)
        with pytest.raises(UnwantedError):
            hung.result(PATIENCE_S)

    assert run(lane, job).k == 4


def test_where_no_process_comes_up_a_job_is_computed_here(photo, monkeypatch, caplog):
    monkeypatch.setattr("app.nursery.MODULE", "app.no_such_module")
    lane, told = LaneProcess(Nursery()), []
    job = QuantizeJob(pixels=photo, options={"k": 4}, on_progress=told.append)

    assert run(lane, job).k == 4
    assert told
    assert "the server computes by itself" in caplog.text

    started = []
    monkeypatch.setattr("app.nursery.start_module", lambda *given, **_: started.append(given))
    assert run(lane, job).k == 4
    assert started == [], "no other request waits for what does not come up"
    lane.close()


def test_a_lane_that_was_closed_starts_no_other_process(lane, photo):
    assert lane.come_up()

    lane.close()

    with pytest.raises(DeviceUnavailable):
        run(lane, QuantizeJob(pixels=photo, options={"k": 4}))
    assert lane._child is None


def test_a_child_is_forked_from_a_warm_process_without_threads(lane, nursery):
    child = lane.come_up()

    process = psutil.Process(child.pid)
    assert process.ppid() == nursery._process.pid
    assert psutil.Process(nursery._process.pid).num_threads() == 1
    compiled = [each.path for each in process.memory_maps() if "torch" in each.path]
    assert compiled, "what is warm has torch"


def test_a_nursery_that_was_killed_is_replaced_and_its_children_live_on(photo):
    nursery = Nursery(os.getpriority(os.PRIO_PROCESS, 0))
    one, other = LaneProcess(nursery), LaneProcess(nursery)
    child, before = one.come_up(), nursery._process.pid
    os.kill(before, signal.SIGKILL)

    assert other.come_up()
    assert run(one, QuantizeJob(pixels=photo, options={"k": 4})).k == 4

    assert one._child is child
    assert nursery._process.pid != before
    for each in (one, other, nursery):
        each.close()


def test_a_nursery_that_was_closed_starts_no_other_process():
    nursery = Nursery(os.getpriority(os.PRIO_PROCESS, 0))
    nursery.start()
    process = nursery._process

    nursery.close()

    assert process.poll() is not None
    assert nursery.fork() is None


def test_what_the_dead_leave_behind_is_cleared_away(lane):
    child = lane.come_up()
    pid = child.pid
    files = psutil.Process().num_fds()

    child.kill()
    wait_until(lambda: child.is_dead)
    assert lane.come_up() is not child

    wait_until(lambda: not psutil.pid_exists(pid))
    assert psutil.Process().num_fds() == files
    child.kill()  # whose handle is closed: nobody else's
    assert child.is_dead
    assert not lane._child.is_dead


def test_children_end_when_whoever_asked_for_them_does():
    program = """
import os
from app.lanes import LaneProcess
from app.nursery import Nursery
nursery = Nursery(os.getpriority(os.PRIO_PROCESS, 0))
print(LaneProcess(nursery).come_up().pid, nursery._process.pid, flush=True)
os._exit(0)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    for pid in map(int, ran.stdout.split()):
        wait_until(lambda pid=pid: not psutil.pid_exists(pid) or is_zombie(pid))


def is_zombie(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_an_engine_computes_what_shares_the_processors_beside_itself(photo):
    engine = Engine(processors=2, processes=2)
    told = []

    async def compute():
        await engine.warm_up()
        options = [{"k": 3}, {"k": 4}, {"k": 0}, {"k": 5}]
        jobs = [
            QuantizeJob(pixels=photo, options=each, on_progress=told.append) for each in options
        ]
        tickets = [Ticket(job, 0, asyncio.get_running_loop().create_future()) for job in jobs]
        found = await asyncio.gather(*(engine.compute([each], 0.5) for each in tickets))
        beside = len(told)
        alone = await engine.submit(jobs[0])
        return [outcome for (outcome,) in found], beside, alone

    found, beside, alone = asyncio.run(compute())

    assert engine.lanes == 2
    assert engine.is_ready
    assert isinstance(found[2], BadParameter)
    assert [one.result.k for one in (found[0], found[1], found[3])] == [3, 4, 5]
    assert beside == 0, "whoever computes elsewhere tells nobody how far it is"
    assert told, "what has all processors is computed here"
    assert alone.result.k == 3
    assert engine.deaths == 0
    children = [lane._child for lane in engine._beside]
    engine.close()
    wait_until(lambda: all(child.is_dead for child in children))


def test_an_engine_that_is_closed_leaves_no_file_open():
    Engine(processors=2, processes=2).close()  # what is opened once and for all is open now
    gc.collect()
    before = psutil.Process().num_fds()
    engine = Engine(processors=2, processes=2)
    held = engine.room_for(1000)

    engine.close()
    engine.close()
    held[:] = 7  # whoever still has a picture keeps it
    del engine, held
    gc.collect()

    assert psutil.Process().num_fds() == before


def test_an_engine_of_one_processor_has_nobody_to_share_it_with():
    engine = Engine(processors=1, processes=1)

    assert (engine.lanes, engine._beside) == (1, [])
    engine.close()
