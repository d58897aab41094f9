"""The real command in a process of its own: it starts, answers, and stops in order."""

import signal
import socket

from servers import server_process


def test_a_half_sent_request_does_not_keep_the_service_from_stopping():
    with (
        server_process(backend="reference") as (process, address),
        socket.create_connection(address) as connection,
    ):
        connection.sendall(b"POST /compress HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nx")
        process.send_signal(signal.SIGINT)

        assert process.wait(timeout=30) == 0
