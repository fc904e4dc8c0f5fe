"""Going on after a signal, in processes of their own; what messages call rows; faults of the disk."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bertune.google import run_classifier, run_pretraining, run_squad
from bertune.google.checkpoints import newest
from bertune.tensorflow_formats.tensor_bundle import TensorBundle

from .conftest import Run

MANY = ["--do_train", "--max_seq_length=32", "--train_batch_size=3", "--num_train_epochs=10", "--device=cpu"]
"""200 updates on 60 rows."""


def interrupted(program: str, arguments: Sequence[str], after: str, number: signal.Signals) -> tuple[int, str]:
    """Start a program, send a signal once it says something, and wait: its exit status, and what it said."""
    command = [sys.executable, "-m", f"bertune.google.{program}", *arguments]
    environment = os.environ | {"COLUMNS": "1000"}
    printed = ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            printed += line
            if after in line:
                process.send_signal(number)
                break
        printed += process.stderr.read()
        return process.wait(60), printed


def test_a_run_that_a_signal_stopped_goes_on_to_the_same_weights(
    run: Run, tiny: list[str], shared: Path, tmp_path: Path
) -> None:
    flags = [*tiny, "--task_name=mrpc", f"--data_dir={shared / 'golden/finetuned'}", *MANY]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    status, printed = interrupted("run_classifier", [*flags, f"--output_dir={stopped}"], "step 100:", signal.SIGTERM)
    assert status == 143, printed
    assert "interrupted by SIGTERM" in printed
    assert "the same command continues" in printed
    assert "Traceback" not in printed
    prefix = newest(stopped)
    assert prefix is not None
    step = int(TensorBundle(prefix).read("global_step"))
    assert 100 <= step < 200
    assert not (stopped / "bertune").exists(), "nothing that looks finished"

    answer = run(run_classifier.main, *flags, f"--output_dir={stopped}")
    assert f"step {step}\n" in answer.err
    run(run_classifier.main, *flags, f"--output_dir={whole}")
    ours, theirs = (TensorBundle(folder / "model.ckpt-200") for folder in (stopped, whole))
    assert ours.names() == theirs.names()
    assert all(np.array_equal(ours.read(name), theirs.read(name)) for name in ours.names())
    assert (stopped / "bertune/model.safetensors").read_bytes() == (whole / "bertune/model.safetensors").read_bytes()


def test_pretraining_stops_too(tiny: list[str], shared: Path, tmp_path: Path) -> None:
    data = shared / "golden/pretraining/instances.tf_record"
    flags = [*tiny[1:], f"--input_file={data}", f"--output_dir={tmp_path}", "--do_train", "--train_batch_size=2"]
    flags += ["--max_seq_length=64", "--max_predictions_per_seq=10", "--num_train_steps=100000", "--device=cpu"]
    status, printed = interrupted("run_pretraining", flags, "training: 100000 steps", signal.SIGINT)
    assert status == 130, printed
    assert "interrupted by SIGINT" in printed
    prefix = newest(tmp_path)
    assert prefix is not None
    assert "cls/predictions/output_bias/adam_v" in TensorBundle(prefix).names()


def test_updates_without_finite_numbers_name_rows_of_the_file(
    run: Run, tiny: list[str], shared: Path, tmp_path: Path
) -> None:
    wild = ["--learning_rate=1e30", "--do_train", "--train_batch_size=2", "--device=cpu", f"--output_dir={tmp_path}"]
    data = shared / "golden/finetuned"
    answer = run(run_classifier.main, *tiny, "--task_name=mrpc", f"--data_dir={data}", *wild, status=2)
    assert f"{data / 'train.tsv'}, lines " in answer.err
    assert "steps in a row had no finite loss or gradient, the last on" in answer.err
    assert "try a lower --learning_rate or --precision" in answer.err
    questions = shared / "golden/squad/v2.json"
    flags = [*tiny, f"--train_file={questions}", "--version_2_with_negative", "--max_seq_length=128", *wild]
    answer = run(run_squad.main, *flags, f"--output_dir={tmp_path / 'squad'}", status=2)
    assert f"{questions}, questions " in answer.err
    records = shared / "golden/pretraining/instances.tf_record"
    flags = [*tiny[1:], f"--input_file={records}", "--max_seq_length=64", "--max_predictions_per_seq=10", *wild]
    flags += [f"--output_dir={tmp_path / 'pretraining'}", "--num_warmup_steps=1"]
    answer = run(run_pretraining.main, *flags, status=2)
    assert f"{records}, records " in answer.err


def test_a_checkpoint_that_cannot_be_written_is_a_fault(
    run: Run, tiny: list[str], shared: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.ckpt-0.index").mkdir()
    flags = [*tiny, "--task_name=mrpc", f"--data_dir={shared / 'golden/finetuned'}", *MANY]
    answer = run(run_classifier.main, *flags, f"--output_dir={tmp_path}", status=1)
    assert "cannot be written" in answer.err
    assert "the same command continues" in answer.err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize(
    "broken",
    [
        "bertune.google.checkpoints.write_bundle",
        "bertune.files.atomic_write.write_text",
        "bertune.google.running.save_model",
        "bertune.google.checkpoints.Curves.close",
    ],
)
def test_faults_of_the_disk_are_no_bad_input(
    broken: str, number: int, run: Run, tiny: list[str], shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "there"))

    monkeypatch.setattr(broken, fails)
    flags = [*tiny, "--task_name=mrpc", f"--data_dir={shared / 'golden/finetuned'}", *MANY, "--num_train_epochs=0.05"]
    answer = run(run_classifier.main, *flags, f"--output_dir={tmp_path}", status=1)
    assert "cannot be written" in answer.err
    assert os.strerror(number) in answer.err
