"""run_classifier and run_classifier_with_tfhub: recorded results, whole runs, going on, refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import bertune
from bertune.google import run_classifier, run_classifier_with_tfhub
from bertune.google.processors import PROCESSORS, read_part
from bertune.tensorflow_formats.tensor_bundle import TensorBundle
from bertune.tensorflow_formats.tfrecord import read_records

from .conftest import Run

SHORT = ["--max_seq_length=32", "--train_batch_size=16", "--num_train_epochs=2", "--learning_rate=1e-3", "--device=cpu"]


@pytest.fixture
def mrpc(shared: Path) -> list[str]:
    return ["--task_name=MRPC", f"--data_dir={shared / 'golden/finetuned'}"]


def numbers(path: Path) -> dict[str, float]:
    return {key: float(value) for key, _, value in (line.partition(" = ") for line in path.read_text().splitlines())}


def same_variables(one: Path, other: Path) -> bool:
    a, b = TensorBundle(one), TensorBundle(other)
    return a.names() == b.names() and all(np.array_equal(a.read(name), b.read(name)) for name in a.names())


def test_evaluation_and_prediction_equal_the_original(
    run: Run, tiny: list[str], mrpc: list[str], shared: Path, tmp_path: Path
) -> None:
    recorded = shared / "golden/finetuned"
    for file in recorded.glob("model.ckpt-15.*"):
        shutil.copy(file, tmp_path)
    shutil.copy(recorded / "checkpoint", tmp_path)
    phases = ["--do_eval=true", "-do_predict", "--max_seq_length=96", f"--output_dir={tmp_path}"]
    run(run_classifier.main, *tiny, *mrpc, *phases)
    ours, theirs = ((folder / "eval_results.txt").read_text().splitlines() for folder in (tmp_path, recorded))
    assert [line.split(" = ")[0] for line in ours] == [line.split(" = ")[0] for line in theirs]
    found, expected = numbers(tmp_path / "eval_results.txt"), numbers(recorded / "eval_results.txt")
    assert found == pytest.approx(expected, abs=1e-4)
    rows = [np.loadtxt(folder / "test_results.tsv", delimiter="\t") for folder in (tmp_path, recorded)]
    assert rows[0].shape == rows[1].shape == (60, 2)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-4)
    records = [list(read_records(folder / "eval.tf_record")) for folder in (tmp_path, recorded)]
    assert len(records[0]) == len(records[1]) == 60
    for mine, original in zip(*records, strict=True):
        assert mine.keys() == original.keys()
        assert all(np.array_equal(mine[name], original[name]) for name in mine)
    assert not (tmp_path / "bertune").exists(), "nothing was trained"


@pytest.mark.parametrize("part", ["train", "dev", "test"])
@pytest.mark.parametrize("task", ["mrpc", "cola"])
def test_examples_equal_the_original(task: str, part: str, shared: Path) -> None:
    lines = (shared / f"golden/classification/{task}.{part}.len128.jsonl").read_text().splitlines()
    folder = shared / "data/glue" / {"mrpc": "MRPC", "cola": "CoLA"}[task]
    processor = PROCESSORS[task]
    for line, example in zip(lines, read_part(processor, folder, part), strict=False):  # type: ignore[arg-type]
        expected = json.loads(line)
        assert (example.text, example.pair) == (expected["text_a"], expected["text_b"])
        assert f"{part}-{example.place - 1}" == expected["guid"]
        assert processor.labels.index(example.label or "0") == expected["label_id"]


def test_a_run_goes_on_where_it_stopped(
    run: Run, tiny: list[str], mrpc: list[str], tmp_path: Path, shared: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    flags = [*tiny, *mrpc, *SHORT, "--do_train", "--save_checkpoints_steps=3", "--keep_checkpoint_max=0"]
    run(run_classifier.main, *flags, f"--output_dir={whole}")
    stopped.mkdir()
    for step in (0, 3):
        for file in whole.glob(f"model.ckpt-{step}.*"):
            shutil.copy(file, stopped)
    (stopped / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-3"\n')
    answer = run(run_classifier.main, *flags, f"--output_dir={stopped}", "--do_eval")
    assert "going on from" in answer.err
    assert numbers(stopped / "eval_results.txt")["global_step"] == 7  # int(60 / 16 * 2)
    assert sorted(path.name for path in whole.glob("*.index")) == [f"model.ckpt-{step}.index" for step in (0, 3, 6, 7)]
    assert same_variables(whole / "model.ckpt-7", stopped / "model.ckpt-7")
    names = TensorBundle(whole / "model.ckpt-7").names()
    assert {"global_step", "output_weights", "output_bias/adam_m", "bert/pooler/dense/kernel/adam_v"} <= set(names)
    # Names and shapes are those of the original's own checkpoint.
    original = TensorBundle(shared / "golden/finetuned/model.ckpt-15")
    mine = TensorBundle(whole / "model.ckpt-7")
    assert set(names) == set(original.names())
    assert all(mine.shape(name) == original.shape(name) for name in names)

    again = run(run_classifier.main, *flags, f"--output_dir={stopped}")
    assert "nothing to train" in again.err
    listed = (whole / "checkpoint").read_text().splitlines()
    assert listed == [
        'model_checkpoint_path: "model.ckpt-7"',
        *(f'all_model_checkpoint_paths: "model.ckpt-{step}"' for step in (0, 3, 6, 7)),
    ]


def test_only_the_newest_checkpoints_stay(run: Run, tiny: list[str], mrpc: list[str], tmp_path: Path) -> None:
    foreign = tmp_path / "model.ckpt-99.index"
    foreign.write_text("not listed, so not touched")
    flags = [*tiny, *mrpc, *SHORT, "--do_train", "--save_checkpoints_steps=1", "--keep_checkpoint_max=2"]
    run(run_classifier.main, *flags, f"--output_dir={tmp_path}")
    kept = sorted(path.name for path in tmp_path.glob("*.data-*"))
    assert kept == [f"model.ckpt-{step}.data-00000-of-00001" for step in (6, 7)]
    assert foreign.exists()


def test_the_model_folder_beside_answers_the_same(run: Run, tiny: list[str], mrpc: list[str], tmp_path: Path) -> None:
    run(run_classifier.main, *tiny, *mrpc, *SHORT, "--do_train", "--do_predict", f"--output_dir={tmp_path}")
    model = bertune.load(tmp_path / "bertune", device="cpu", precision="fp32")
    data = Path(mrpc[1].removeprefix("--data_dir=")) / "test.tsv"
    probabilities = np.loadtxt(tmp_path / "test_results.tsv", delimiter="\t")
    answers = list(model.predict_examples(model.task.read(data, labelled=False)))
    found = [[answer["scores"][label] for label in ("0", "1")] for answer in answers]
    np.testing.assert_allclose(found, probabilities, atol=1e-5)


def test_any_source_brings_its_config_and_vocabulary(
    run: Run, tiny: list[str], mrpc: list[str], tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run(run_classifier.main, *tiny, *mrpc, *SHORT, "--do_train", f"--output_dir={first}")
    source = f"--init_checkpoint={first / 'bertune'}"
    answer = run(run_classifier.main, source, *mrpc, "--max_seq_length=32", "--do_eval", f"--output_dir={second}")
    run(run_classifier.main, *tiny, *mrpc, "--max_seq_length=32", "--do_eval", f"--output_dir={first}")
    found, expected = numbers(second / "eval_results.txt"), numbers(first / "eval_results.txt")
    assert found.pop("global_step") == 0
    assert expected.pop("global_step") == 7
    assert found == pytest.approx(expected, abs=1e-6), answer.err  # the head, too, was taken over


def test_a_hub_module(run: Run, mrpc: list[str], shared: Path, tmp_path: Path) -> None:
    handle = f"--bert_hub_module_handle={shared / 'golden/hub/tiny_module'}"
    flags = [handle, *mrpc, *SHORT, f"--output_dir={tmp_path}", "--vocab_file=nowhere"]
    answer = run(run_classifier_with_tfhub.main, *flags, "--do_train", "--do_eval", "--do_predict")
    assert "--vocab_file: not used" in answer.err
    assert {path.name for path in tmp_path.glob("*.tf_record")} == {"predict.tf_record"}
    assert len((tmp_path / "test_results.tsv").read_text().splitlines()) == 60
    run(run_classifier_with_tfhub.main, *flags, "--do_predict")
    strict = run(run_classifier_with_tfhub.main, *flags, "--do_predict", "--strict_original", status=2)
    assert "refuses it alone" in strict.err


def test_the_same_seed_gives_the_same_run(run: Run, tiny: list[str], mrpc: list[str], tmp_path: Path) -> None:
    flags = [*tiny, *mrpc, *SHORT, "--do_train", "--num_train_epochs=1"]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(run_classifier.main, *flags, f"--seed={seed}", f"--output_dir={tmp_path / name}")
    a, b, c = (tmp_path / name / "model.ckpt-3" for name in "abc")
    assert same_variables(a, b)
    assert not same_variables(a, c)


def test_refusals_come_together_and_leave_nothing(
    run: Run, tiny: list[str], mrpc: list[str], shared: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    answer = run(run_classifier.main, f"--output_dir={output}", status=2)
    assert all(f"--{name} must be given" in answer.err for name in ("data_dir", "task_name", "vocab_file"))
    common = [*tiny, f"--output_dir={output}"]
    answer = run(run_classifier.main, *common, "--task_name=sst", "--data_dir=.", status=2)
    assert "--do_train" in answer.err
    assert "known: cola, mnli, mrpc, xnli" in answer.err
    answer = run(run_classifier.main, *common, *mrpc, "--do_eval", "--max_seq_length=129", status=2)
    assert "128 positions" in answer.err
    answer = run(run_classifier.main, *common, *mrpc, "--do_train", "--use_tpu", "--require_tpu", status=2)
    assert "--require_tpu" in answer.err
    gone = [*tiny[:2], "--init_checkpoint=gone/bert_model.ckpt", *mrpc, "--do_eval", f"--output_dir={output}"]
    assert (
        "--init_checkpoint gone/bert_model.ckpt: no checkpoint found" in run(run_classifier.main, *gone, status=2).err
    )
    answer = run(run_classifier.main, *common, *mrpc, "--do_train", "--num_train_epochs=0.1", status=2)
    assert "no whole training step" in answer.err
    assert [path.name for path in output.glob("*.index")] == []
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "dev.tsv").write_text("h\n2\ta\tb\tc\td\n1\ta\n1\ta\tb\tc\td\n")
    answer = run(run_classifier.main, *common, "--task_name=mrpc", f"--data_dir={bad}", "--do_eval", status=2)
    assert "line 2: label '2'" in answer.err
    assert "line 3: 2 columns" in answer.err


def test_casing_is_checked_by_the_checkpoints_name(
    run: Run, tiny: list[str], mrpc: list[str], shared: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cased_L-12_H-768_A-12"
    shutil.copytree(shared / "golden/tiny", folder)
    flags = [*tiny[:2], f"--init_checkpoint={folder / 'bert_model.ckpt'}", *mrpc, "--do_eval"]
    answer = run(run_classifier.main, *flags, f"--output_dir={tmp_path / 'out'}", status=2)
    assert "pass --do_lower_case=False" in answer.err


def test_a_checkpoint_of_which_nothing_fits(run: Run, tiny: list[str], mrpc: list[str], tmp_path: Path) -> None:
    from bertune.tensorflow_formats.tensor_bundle import write_bundle

    write_bundle(tmp_path / "other.ckpt", {"resnet/kernel": np.zeros((2, 2), np.float32)})
    flags = [*tiny[:2], f"--init_checkpoint={tmp_path / 'other.ckpt'}", *mrpc, "--max_seq_length=32", "--do_eval"]
    answer = run(run_classifier.main, *flags, f"--output_dir={tmp_path / 'out'}", status=2)
    assert "resnet/kernel" in answer.err
    answer = run(run_classifier.main, *flags, f"--output_dir={tmp_path / 'out'}", "--strict_original")
    assert "continues with new weights" in answer.err


def test_tpu_flags_are_taken_and_told(run: Run, tiny: list[str], mrpc: list[str], tmp_path: Path) -> None:
    flags = ["--use_tpu=true", "--tpu_name=t", "--num_tpu_cores=8", "--iterations_per_loop=1000", "--device=cpu"]
    answer = run(run_classifier.main, *tiny, *mrpc, *flags, "--do_eval", f"--output_dir={tmp_path}")
    assert "computes on cpu" in answer.err


def test_bf16_trains_and_saves_full_precision(run: Run, tiny: list[str], mrpc: list[str], tmp_path: Path) -> None:
    flags = [*tiny, *mrpc, *SHORT, "--do_train", "--precision=bf16", f"--output_dir={tmp_path}"]
    run(run_classifier.main, *flags)
    model = bertune.load(tmp_path / "bertune", device="cpu", precision="fp32")
    stored = TensorBundle(tmp_path / "model.ckpt-7").read("bert/pooler/dense/kernel")
    np.testing.assert_array_equal(model.network.encoder.pooler.weight.detach().numpy().T, stored)
    assert not torch.equal(torch.from_numpy(stored).bfloat16().float(), torch.from_numpy(stored))
