"""AutoGluon's multimodal predictor within a wall clock: minilm, everything else as it chooses.

Started by `benchmarks.budget` with the Python of an environment that has `autogluon.multimodal`, which needs another
torch than bertune's: this file imports nothing of the project. The last line of its output is JSON: the seconds until
its model was written, and its answers for the rows for reporting, which are asked for when the clock has been stopped.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

MARGIN = 20.0
"""Seconds of the time that are kept for what AutoGluon does after its own limit: averaging of checkpoints, saving."""


def run(said: argparse.Namespace) -> dict[str, Any]:
    """Train and answer."""
    import pandas as pd
    import torch
    from autogluon.multimodal import MultiModalPredictor

    torch.set_num_threads(said.threads)
    tags = said.metric == "f1"

    def rows(path: Path) -> Any:
        frame = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
        if tags:
            frame["label"] = frame["label"].map(json.dumps)
        return frame

    hyperparameters = {
        f"model.{'ner_text' if tags else 'hf_text'}.checkpoint_name": said.encoder,
        "model.names": ["ner_text" if tags else "hf_text"],
        "env.num_workers": 0,
        "env.num_workers_inference": 0,
        "env.num_gpus": 0,
        "env.precision": 32,
    }
    kind: dict[str, Any] = {"problem_type": "ner"} if tags else {"problem_type": "binary", "eval_metric": said.metric}
    predictor = MultiModalPredictor(label="label", path=str(said.output), verbosity=1, **kind)
    predictor.fit(
        rows(said.train), tuning_data=rows(said.choose), hyperparameters=hyperparameters, seed=said.seed,
        time_limit=said.seconds - (time.time() - said.began) - MARGIN,
        column_types={"text": "text_ner"} if tags else {"text": "text", "pair": "text"},
    )  # fmt: skip
    ended = time.time()
    answers = []
    for path in said.report:
        told = list(predictor.predict(rows(path).drop(columns="label"), as_pandas=False, realtime=False))
        if tags:
            told = [[(one["entity_group"], int(one["start"]), int(one["end"])) for one in row] for row in told]
        answers.append(told if tags else [str(one) for one in told])
    return {"seconds": ended - said.began, "answers": answers}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train", "choose", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--report", type=Path, nargs="+", required=True)
    parser.add_argument("--encoder", required=True, help="a folder")
    parser.add_argument("--metric", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--began", type=float, required=True, help="of time.time, when the process was started")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
