"""A command of bertune whose rank 1 kills itself at a certain point, in the first attempt alone: `PHASE ARGUMENTS…`."""

import os
import signal
import sys
from typing import Any

from bertune.cli.main import main
from bertune.training.loop import loop
from bertune.training.loop import update as updates


def _die(phase: str) -> None:
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.write(2, f"killed in {phase}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


def die_in(phase: str) -> None:
    """Let this process die there: after three updates, in the first evaluation, or while rank 0 writes a checkpoint."""
    if phase == "training":
        compute = updates._Update.compute

        def dying(self: updates._Update, *given: Any, **more: Any) -> Any:
            if self.state.step == 3:
                _die(phase)
            return compute(self, *given, **more)

        updates._Update.compute = dying  # type: ignore[method-assign]
    elif phase == "evaluation":
        check = loop.check

        def checking(setup: Any, config: Any, state: Any) -> None:
            _die(phase)
            check(setup, config, state)

        loop.check = checking
    else:
        from bertune.training.launch import Follower

        Follower.save_checkpoint = lambda *_: _die(phase)  # type: ignore[method-assign]


if __name__ == "__main__":
    die_in(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
