"""A command of bertune whose rank 1 kills itself at a certain point, in the first attempt alone: `PHASE ARGUMENTS…`."""

import os
import signal
import sys
from typing import Any

from bertune.cli.main import main
from bertune.training.loop import loop, validation


def _die(phase: str) -> None:
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.write(2, f"killed in {phase}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


def die_in(phase: str) -> None:
    """Let this process die there: after three updates, in the first evaluation, or while rank 0 writes a checkpoint."""
    if phase == "training":
        compute = loop._Update.compute

        def dying(self: loop._Update, *given: Any, **more: Any) -> Any:
            if self.state.step == 3:
                _die(phase)
            return compute(self, *given, **more)

        loop._Update.compute = dying  # type: ignore[method-assign]
    elif phase == "evaluation":
        check = validation.check

        def checking(*given: Any) -> None:
            _die(phase)
            check(*given)

        validation.check = checking  # type: ignore[assignment]
    else:
        from bertune.training.launch import Follower

        Follower.save_checkpoint = lambda *_: _die(phase)  # type: ignore[method-assign]


if __name__ == "__main__":
    die_in(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
