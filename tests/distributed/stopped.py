"""A command of bertune whose rank 0 is busy before it first meets the others, and whose rank 1 then gets SIGTERM."""

import os
import signal
import sys
import threading
import time

from bertune.distributed.world import current
from tests.distributed.work import busy_first


def _stop_when_joined() -> None:
    while current().size == 1:
        time.sleep(0.05)
    time.sleep(2)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    if os.environ["RANK"] == "1":
        threading.Thread(target=_stop_when_joined, daemon=True).start()
    sys.exit(busy_first("200", *sys.argv[1:]))
