"""The line between hosts: one thread stands for each host, over real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dreamer.training.line import FAULT, HostLostError, Line, accept, connect

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    """Three hosts that have found each other, past a stranger who only knows the port."""
    with socket.create_server(("localhost", 0)) as server, ThreadPoolExecutor() as others:
        address = server.getsockname()
        stranger = connect(address, secret="guessed", index=1)
        coming = [others.submit(connect, address, secret="known", index=index) for index in (1, 2)]
        peers = accept(server, secret="known", count=3)
        found = [Line(peers, index=0), *(Line({0: each.result()}, index=i) for i, each in enumerate(coming, start=1))]
    yield found
    for line in found:
        line.close()
    stranger.close()


def all_at_once(lines: list[Line], say: Callable[[int, Line], object]) -> list[object]:
    """What each host gets, or the error that it meets."""

    def attempt(index: int, line: Line) -> object:
        try:
            return say(index, line)
        except HostLostError as error:
            line.close(failure=str(error))
            return error

    with ThreadPoolExecutor() as threads:
        return list(threads.map(attempt, range(len(lines)), lines))


def test_everybody_hears_what_all_say_in_the_order_of_the_hosts(lines):
    for count in range(20):
        heard = all_at_once(lines, lambda index, line, count=count: line.exchange([index, count], at="here"))
        assert heard == [[[0, count], [1, count], [2, count]]] * 3


def test_the_reason_of_a_host_that_fails_reaches_all(lines):
    lines[1].close(failure="no space left on device")
    heard = all_at_once([lines[0], lines[2]], lambda index, line: line.exchange(index, at="here"))
    assert all(isinstance(error, HostLostError) for error in heard)
    assert all("host 1 on" in str(error) and "ended: no space left on device" in str(error) for error in heard)


def test_a_host_that_goes_without_a_word_is_missed_at_once(lines):
    lines[2]._peers[0].shutdown(socket.SHUT_RDWR)  # as the kernel does for a process that is killed
    began = time.monotonic()
    heard = all_at_once(lines[:2], lambda index, line: line.exchange(index, at="here"))
    assert all("host 2 is gone without a word" in str(error) for error in heard)
    assert time.monotonic() - began < 5


def test_what_was_said_before_a_good_bye_is_still_heard(lines):
    def last_words(index: int, line: Line) -> list[object]:
        heard = line.exchange(index, at="here")
        line.close()
        return heard

    assert all_at_once(lines, last_words) == [[0, 1, 2]] * 3


def test_hosts_at_different_places_do_not_take_each_others_words(lines):
    heard = all_at_once(lines, lambda index, line: line.exchange(index, at="b" if index == 1 else "a"))
    assert all("host 1 is at 'b' where host 0 is at 'a'" in str(error) for error in heard)


def test_hosts_that_never_come_are_named(monkeypatch):
    monkeypatch.setattr("dreamer.training.line.CONNECT_SECONDS", 0.3)
    with (
        socket.create_server(("localhost", 0)) as server,
        pytest.raises(HostLostError, match=r"hosts \[1, 2\] did not"),
    ):
        accept(server, secret="known", count=3)


HANGING = """
import socket, sys, threading
from dreamer.training import line
line.GRACE_SECONDS = 0.5
connection = socket.create_connection(("localhost", int(sys.argv[1])))
line.Line({0: connection}, index=1)
threading.Event().wait()  # as in a collective of a dead host
"""


def test_a_process_that_hangs_with_the_dead_ends_with_a_sentence():
    with socket.create_server(("localhost", 0)) as server:
        port = str(server.getsockname()[1])
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(
            [sys.executable, "-c", HANGING, port], env=environment, stderr=subprocess.PIPE, text=True
        )
        connection, _ = server.accept()
        connection.close()
        _, said = process.communicate(timeout=60)
    assert process.returncode == FAULT
    assert "error: host 0 is gone without a word" in said


def test_no_thread_outlives_the_line(lines):
    for line in lines:
        line.close()
    deadline = time.monotonic() + 10
    while [t for t in threading.enumerate() if t.name.startswith("host-")] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [t.name for t in threading.enumerate() if t.name.startswith("host-")] == []
