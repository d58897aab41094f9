"""The real command in a process of its own: it starts, answers, and stops in order."""

import signal
import socket
import threading

import httpx
from pictures import encoded, noise
from servers import server_process, wait_until

PICTURE = encoded(noise(4, 4))


def is_ready(client):
    return client.get("/readyz").status_code == 200


def test_what_was_let_in_is_answered_before_the_service_stops():
    slow = encoded(noise(300, 300))
    with server_process(backend="reference") as (process, (host, port)):
        answers = []
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=60) as client:
            wait_until(lambda: is_ready(client))

            def ask():
                answers.append(client.post("/compress?k=32&curve=false&dither=0", content=slow))

            asking = [threading.Thread(target=ask) for _ in range(3)]
            for each in asking:
                each.start()
            wait_until(lambda: "\ngpu_kmeans_jobs 3" in client.get("/metrics").text or answers)
            process.send_signal(signal.SIGTERM)
            for each in asking:
                each.join()

        assert [answer.status_code for answer in answers] == [200] * 3, process.lines
        assert process.wait(timeout=30) == 0


def test_a_half_sent_request_does_not_keep_the_service_from_stopping():
    with (
        server_process(backend="reference") as (process, address),
        socket.create_connection(address) as connection,
    ):
        connection.sendall(b"POST /compress HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nx")
        process.send_signal(signal.SIGINT)

        assert process.wait(timeout=30) == 0


def test_what_takes_longer_than_the_time_to_stop_is_told_so():
    endless = encoded(noise(1500, 1500))
    with server_process(backend="reference", stop_timeout_s=0) as (process, (host, port)):
        answers = []
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=60) as client:
            wait_until(lambda: is_ready(client))
            asking = threading.Thread(
                target=lambda: answers.append(client.post("/palette?k=256", content=endless))
            )
            asking.start()
            wait_until(lambda: "\ngpu_kmeans_jobs 1" in client.get("/metrics").text)
            process.send_signal(signal.SIGTERM)
            asking.join()

        assert answers[0].json()["code"] == "not-ready"
        assert process.wait(timeout=30) == 0
