"""create_pretraining_data and run_pretraining: the recorded instances and figures, whole runs, refusals."""

import errno
import json
import os
import signal
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertune
from bertune.errors import FaultError, Interrupted
from bertune.google import create_pretraining_data, run_pretraining
from bertune.google.create_pretraining_data import read_documents
from bertune.google.run_pretraining import open_sequences
from bertune.tensorflow_formats.tensor_bundle import TensorBundle
from bertune.tensorflow_formats.tfrecord import Record, read_records, write_records
from bertune.tokenization.tokenizer import Tokenizer
from bertune.training import launch
from bertune.training.loop import loop
from tests.tiny import VOCABULARY, write_encoder

from .conftest import Run

LENGTHS = ["--max_seq_length=64", "--max_predictions_per_seq=10"]


@pytest.mark.parametrize("whole", [False, True])
def test_instances_equal_the_original(whole: bool, run: Run, tiny: list[str], shared: Path, tmp_path: Path) -> None:
    folder = shared / "golden/pretraining"
    outputs = [tmp_path / "a", tmp_path / "b"]
    flags = [tiny[0], f"--input_file={folder}/corp*.txt", f"--output_file={outputs[0]},{outputs[1]}", "--dupe_factor=1"]
    run(create_pretraining_data.main, *flags, *LENGTHS, f"--do_whole_word_mask={whole}")
    expected = list(read_records(folder / f"instances{'.wwm' if whole else ''}.tf_record"))
    for number, path in enumerate(outputs):  # dealt in turn
        found = list(read_records(path))
        for mine, original in zip(found, expected[number::2], strict=True):
            assert mine.keys() == original.keys()
            assert all(np.array_equal(mine[name], original[name]) for name in mine)


def test_a_file_ends_its_last_document(shared: Path, tmp_path: Path) -> None:
    words = Tokenizer.from_vocab(shared / "golden/tiny/vocab.txt")
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_text("a\n\n\nb\nc")
    second.write_text("d\n\ne\n")
    assert read_documents([first, second], words, strict=False) == [[["a"]], [["b"], ["c"]], [["d"]], [["e"]]]
    assert read_documents([first, second], words, strict=True) == [[["a"]], [["b"], ["c"], ["d"]], [["e"]]]


def test_evaluation_equals_the_original(run: Run, tiny: list[str], shared: Path, tmp_path: Path) -> None:
    folder = shared / "golden/pretraining"
    flags = [*tiny[1:], f"--input_file={folder / 'instances.tf_record'}", f"--output_dir={tmp_path}", *LENGTHS]
    answer = run(run_pretraining.main, *flags, "--do_eval=True", "--max_eval_steps=5")
    assert "--eval_input_file" in answer.err
    ours, theirs = (
        [line.split(" = ") for line in (at / "eval_results.txt").read_text().splitlines()] for at in (tmp_path, folder)
    )
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    assert [float(value) for _, value in ours] == pytest.approx([float(value) for _, value in theirs], abs=1e-4)


def test_training_goes_on(run: Run, tiny: list[str], shared: Path, tmp_path: Path) -> None:
    folder = shared / "golden/pretraining"
    flags = [*tiny[1:], f"--input_file={folder / 'instances.tf_record'}", f"--output_dir={tmp_path}", *LENGTHS]
    flags += ["--do_train", "--num_warmup_steps=1", "--train_batch_size=8", "--learning_rate=1e-3", "--device=cpu"]
    run(run_pretraining.main, *flags, "--num_train_steps=2")
    answer = run(run_pretraining.main, *flags, "--num_train_steps=3", "--do_eval", "--max_eval_steps=2")
    assert "going on from" in answer.err
    assert "global_step = 3" in answer.err
    names = set(TensorBundle(tmp_path / "model.ckpt-3").names())
    assert {"cls/predictions/output_bias/adam_m", "cls/seq_relationship/output_weights"} <= names
    model = bertune.load(tmp_path / "bertune", device="cpu", precision="fp32")
    assert model.predict(["paris is the [MASK] of france ."])[0]["masks"]

    # Any source brings its config, as elsewhere: what was trained evaluates the same from its model folder.
    own = [f"--init_checkpoint={tmp_path / 'bertune'}", f"--output_dir={tmp_path / 'other'}", flags[2], *LENGTHS]
    other = run(run_pretraining.main, *own, "--do_eval", "--max_eval_steps=2")
    figures = [line for line in answer.err.splitlines() if " = " in line and "global_step" not in line]
    assert figures
    assert figures == [line for line in other.err.splitlines() if " = " in line and "global_step" not in line]


def test_from_scratch(run: Run, tiny: list[str], shared: Path, tmp_path: Path) -> None:
    folder = shared / "golden/pretraining"
    flags = [tiny[1], f"--input_file={folder / 'instances.tf_record'}", f"--output_dir={tmp_path}", *LENGTHS]
    flags += ["--do_train", "--num_train_steps=1", "--num_warmup_steps=0", "--train_batch_size=4"]
    answer = run(run_pretraining.main, *flags)
    assert "all weights are new" in answer.err
    assert (tmp_path / "model.ckpt-1.index").is_file()


def some_records(count: int) -> Iterator[Record]:
    """Records of 512 tokens."""
    tokens, masks = np.arange(512), np.arange(20)
    record = {"input_ids": tokens, "input_mask": np.ones(512, np.int64), "segment_ids": tokens // 256}
    record |= {"masked_lm_positions": masks, "masked_lm_ids": masks + 5, "masked_lm_weights": np.ones(20, np.float32)}
    return (record | {"next_sentence_labels": np.array([number % 2])} for number in range(count))


def test_records_are_not_held_in_memory(tmp_path: Path) -> None:
    """800 records of 512 tokens take 3.2 MiB as the flat table that they become on disk."""
    path = tmp_path / "data"
    write_records(path, some_records(800))
    tracemalloc.start()
    found = open_sequences([path], 600, tmp_path / "tables")
    for first in range(0, 800, 16):
        features = found.features(np.arange(first, first + 16)[::-1], 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * 2**20  # of which 1 MiB is a piece of the file, read for its hash
    assert len(found) == 800
    assert features.input_ids[0].tolist() == list(range(512))
    assert np.asarray(features.targets["next_sentence"]).tolist() == [1, 0] * 8


def test_a_full_disk_for_the_records_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_records(tmp_path / "data", some_records(1))
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(FaultError, match="No space left on device"):
        open_sequences([tmp_path / "data"], 600, tmp_path / "tables")


def tables() -> list[Path]:
    """What lies in the cache of records that were laid out."""
    return list((Path(os.environ["BERTUNE_CACHE"]) / "corpora").glob("**/*.int32"))


def test_records_laid_out_go_when_the_run_is_finished_and_stay_where_it_was_stopped(
    run: Run, tiny: list[str], shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shared / "golden/pretraining/instances.tf_record"
    flags = [*tiny[1:], f"--input_file={data}", f"--eval_input_file={data}", *LENGTHS, "--do_train", "--device=cpu"]
    flags += ["--do_eval", "--num_train_steps=2", "--num_warmup_steps=1", "--train_batch_size=4", "--max_eval_steps=1"]
    with monkeypatch.context() as patch:
        patch.setattr(launch, "fit", interrupted)
        run(run_pretraining.main, *flags, f"--output_dir={tmp_path / 'one'}", status=143)
    kept = tables()
    assert len(kept) == 1  # the files are the same, so it is one table
    when = kept[0].stat().st_mtime_ns

    run(run_pretraining.main, *flags, f"--output_dir={tmp_path / 'two'}")  # of the same data, in another folder
    assert tables() == kept
    assert kept[0].stat().st_mtime_ns == when
    run(run_pretraining.main, *flags, f"--output_dir={tmp_path / 'one'}")
    assert tables() == []
    run(run_pretraining.main, *flags, f"--output_dir={tmp_path / 'one'}")  # finished already; made anew, to evaluate
    assert tables() == []


def interrupted(*_: object) -> None:
    """Training that a SIGTERM ends."""
    raise Interrupted(signal.SIGTERM)


def flags_of(tiny: list[str], data: Path, output: Path) -> list[str]:
    """A short training."""
    flags = [*tiny[1:], f"--input_file={data}", *LENGTHS, "--device=cpu", f"--output_dir={output}"]
    return [*flags, "--num_train_steps=2", "--num_warmup_steps=1", "--train_batch_size=4", "--max_eval_steps=1"]


def test_other_runs_leave_the_tables_of_a_stopped_training(
    run: Run, tiny: list[str], shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shared / "golden/pretraining/instances.tf_record"
    flags = flags_of(tiny, data, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(launch, "fit", interrupted)
        run(run_pretraining.main, *flags, "--do_train", status=143)
    (kept,) = tables()
    when = kept.stat().st_mtime_ns
    run(run_pretraining.main, *flags, "--do_eval")
    assert tables() == [kept]
    torn = tmp_path / "torn"
    torn.write_bytes(data.read_bytes()[:-10])
    run(run_pretraining.main, *flags_of(tiny, torn, tmp_path / "out"), "--do_train", status=2)
    assert list(kept.parents[1].iterdir()) == [kept.parent]  # nothing of the torn ones
    with monkeypatch.context() as patch:
        patch.setattr(launch, "fit", interrupted)
        run(run_pretraining.main, *flags, "--do_train", status=143)
    assert kept.stat().st_mtime_ns == when  # not laid out anew
    run(run_pretraining.main, *flags, "--do_train")
    assert cached() == []


def test_a_cache_that_cannot_be_written_is_named(
    run: Run, tiny: list[str], shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path / "file"))
    flags = flags_of(tiny, shared / "golden/pretraining/instances.tf_record", tmp_path / "out")
    for more in ("--do_eval", "--do_train"):
        assert f"{tmp_path / 'file/corpora'}: cannot be" in run(run_pretraining.main, *flags, more, status=2).err


def cached() -> list[Path]:
    """All that runs left in the folder of caches."""
    return list((Path(os.environ["BERTUNE_CACHE"]) / "corpora").iterdir())


@pytest.mark.parametrize(("more", "status"), [(["--do_eval"], 0), (["--do_train"], 0), (["--do_train", "torn"], 2)])
def test_other_runs_leave_the_tables_of_a_training_under_way(
    more: list[str],
    status: int,
    run: Run,
    tiny: list[str],
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other run comes and goes while the first one trains."""
    data, torn, fit = shared / "golden/pretraining/instances.tf_record", tmp_path / "torn", loop.fit
    torn.write_bytes(data.read_bytes()[:-10])
    seen: list[list[Path]] = []

    def other_meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(launch, "fit", fit)
        seen.append(tables())
        flags = flags_of(tiny, torn if "torn" in more else data, tmp_path / "out")
        run(run_pretraining.main, *flags, more[0], status=status)
        seen.append(tables())
        return fit(*arguments)

    monkeypatch.setattr(launch, "fit", other_meanwhile)
    run(run_pretraining.main, *flags_of(tiny, data, tmp_path / "out"), "--do_train")
    assert len(seen[0]) == 1
    assert seen[1] == seen[0]
    assert cached() == []


def test_only_the_records_that_a_run_needs_are_laid_out(
    run: Run, tiny: list[str], shared: Path, tmp_path: Path
) -> None:
    data, held = shared / "golden/pretraining/instances.tf_record", tmp_path / "held"
    held.write_bytes(data.read_bytes())
    flags = [*flags_of(tiny, data, tmp_path / "out"), tiny[0]]
    told = run(run_pretraining.main, *flags, "--do_eval", f"--eval_input_file={held}").err
    assert f"copying {held} to" in told
    assert f"copying {data} to" not in told
    assert "evaluating on --input_file" not in told
    assert f"copying {data} to" in run(run_pretraining.main, *flags, "--do_train").err
    before = json.loads((tmp_path / "out/bertune/bertune.json").read_text())
    told = run(run_pretraining.main, *flags, "--do_train").err  # finished already
    assert told.count("nothing to train") == 1
    assert "copying" not in told
    assert json.loads((tmp_path / "out/bertune/bertune.json").read_text())["data"] == before["data"]
    told = run(run_pretraining.main, *flags, "--do_train", "--do_eval", f"--eval_input_file={held}").err
    assert f"copying {held} to" in told
    assert f"copying {data} to" not in told
    told = run(run_pretraining.main, *flags, "--do_train", "--do_eval").err
    assert told.count("nothing to train") == told.count(f"copying {data} to") == 1


def test_records_that_are_refused_leave_nothing(run: Run, tiny: list[str], shared: Path, tmp_path: Path) -> None:
    whole = (shared / "golden/pretraining/instances.tf_record").read_bytes()
    (tmp_path / "torn").write_bytes(whole[:-10])
    flags = [*tiny[1:], f"--input_file={tmp_path / 'torn'}", f"--output_dir={tmp_path / 'out'}", *LENGTHS, "--do_eval"]
    run(run_pretraining.main, *flags, status=2)
    assert list((Path(os.environ["BERTUNE_CACHE"]) / "corpora").iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_that_is_named(run: Run, tiny: list[str], shared: Path, tmp_path: Path) -> None:
    """It goes before the source's own, and is checked before any work."""
    start = write_encoder(tmp_path / "start", vocab_size=30522)
    data = shared / "golden/pretraining/instances.tf_record"
    flags = [f"--init_checkpoint={start}", f"--input_file={data}", *LENGTHS]
    flags += ["--do_train", "--num_train_steps=1", "--num_warmup_steps=0", "--train_batch_size=2", "--device=cpu"]
    run(run_pretraining.main, *flags, f"--output_dir={tmp_path / 'own'}")
    assert bertune.load(tmp_path / "own/bertune").tokenizer.vocab_size == len(VOCABULARY)
    run(run_pretraining.main, *flags, tiny[0], f"--output_dir={tmp_path / 'named'}")
    assert bertune.load(tmp_path / "named/bertune").tokenizer.vocab_size == 30522
    flags.append(f"--output_dir={tmp_path / 'out'}")
    answer = run(run_pretraining.main, *flags, f"--vocab_file={tmp_path / 'gone.txt'}", status=2)
    assert f"--vocab_file {tmp_path / 'gone.txt'}: no such file" in answer.err
    (tmp_path / "larger.txt").write_text((start / "vocab.txt").read_text() + "\n".join(map(str, range(30522))))
    answer = run(run_pretraining.main, *flags, f"--vocab_file={tmp_path / 'larger.txt'}", status=2)
    assert f"--vocab_file {tmp_path / 'larger.txt'}: has {30522 + len(VOCABULARY)} entries" in answer.err
    assert not (tmp_path / "out").exists()


def test_refusals(run: Run, tiny: list[str], shared: Path, tmp_path: Path) -> None:
    data = shared / "golden/pretraining/instances.tf_record"
    flags = [*tiny[1:], f"--input_file={data}", f"--output_dir={tmp_path / 'out'}", "--do_eval"]
    answer = run(run_pretraining.main, *flags, "--max_seq_length=128", status=2)
    assert "input_ids has 64 values, expected 128" in answer.err
    answer = run(run_pretraining.main, *flags, "--max_seq_length=64", status=2)
    assert "pass --max_predictions_per_seq=10" in answer.err
    small = tmp_path / "config.json"
    small.write_text(json.dumps(json.loads(Path(tiny[1].partition("=")[2]).read_text()) | {"vocab_size": 1000}))
    other = [f"--bert_config_file={small}", f"--input_file={data}", f"--output_dir={tmp_path / 'out'}", "--do_eval"]
    answer = run(run_pretraining.main, *other, *LENGTHS, status=2)
    assert "record 0 (from 0): input_ids holds" in answer.err
    answer = run(run_pretraining.main, *tiny[1:], f"--output_dir={tmp_path}", "--input_file=gone*", status=2)
    assert "nothing to do" in answer.err
    assert "gone*" in answer.err
    assert not (tmp_path / "out").exists()
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    output = tmp_path / "made"
    made = [tiny[0], f"--input_file={empty}", f"--output_file={output}"]
    assert "no text in it" in run(create_pretraining_data.main, *made, status=2).err
    answer = run(create_pretraining_data.main, *made, "--max_seq_length=4", "--masked_lm_prob=2", status=2)
    assert "--max_seq_length=4" in answer.err
    assert "--masked_lm_prob=2" in answer.err
    assert not output.exists()
