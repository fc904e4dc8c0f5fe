"""OpenMP threads of those who compute: released where several take turns, so that the others' need not sleep."""

import subprocess
import sys
import threading
import time

import pytest

from bertune.serving import compute_turns
from bertune.serving.compute_turns import ComputeTurns

COUNT = """
import os, sys, threading, time
import torch
from bertune.serving.compute_turns import ComputeTurns

def threads():
    time.sleep(0.2)  # the kernel lists an ended thread a moment longer
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(3)
before = threads()
def compute():
    torch.ones(1 << 20).add_(1)
turns = ComputeTurns()
with turns.member():
    with turns.turn():
        compute()
    alone = threads() - before
    with turns.member(), turns.turn():
        compute()
    print(alone, threads() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_helpers_stay_with_one_member_and_end_with_several() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["2", "0"]


def test_one_thread_at_a_time_has_the_turn() -> None:
    turns, inside, most = ComputeTurns(), [0], [0]

    def work() -> None:
        with turns.member():
            for _ in range(20):
                with turns.turn():
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0.0005)
                    inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert turns.members == 0


def test_the_turn_is_given_away_after_a_failure() -> None:
    turns = ComputeTurns()
    with pytest.raises(RuntimeError), turns.turn():
        raise RuntimeError
    with turns.turn():
        pass


def test_to_release_leaves_nothing_for_the_collector() -> None:
    """A library opened anew each time made types, which pile up between two rounds of the collector."""
    assert compute_turns._process() is compute_turns._process()
