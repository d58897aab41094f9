"""Asks for health every few milliseconds, in a process of its own: the attacker must not slow it.

Prints a line for each answer, its status and its milliseconds, until its input is closed, and one
more: however short an attack, there is an answer from before it and one from its end.
"""

import select
import socket
import sys
import time

EVERY_S = 0.025
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"


def ask(address):
    """The status that comes, or what went wrong."""
    try:
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(REQUEST)
            return connection.recv(65536)[9:12].decode() or "cut off"
    except OSError as error:
        return type(error).__name__


def main(host, port):
    is_over = False
    while True:
        started_at = time.perf_counter()
        status = ask((host, int(port)))
        print(status, 1e3 * (time.perf_counter() - started_at), flush=True)
        if is_over:
            return
        is_over = bool(select.select([sys.stdin], [], [], EVERY_S)[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
