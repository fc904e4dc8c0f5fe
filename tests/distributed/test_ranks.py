"""Several processes compute what one computes: real ones, over gloo, as torchrun starts them."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.nursery import Child, Nursery, command_line
from tests.tiny import opinions, same_weights, weights, write_encoder, write_rows

OPTIONS: dict[str, Any] = {
    "max_seq_length": 32,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "epochs": 2,
    "device": "cpu",
    "precision": "fp32",
}


PRETRAINING_LENGTHS = ["--max_seq_length=64", "--max_predictions_per_seq=10", "--max_eval_steps=7"]


def finished(children: list[Child]) -> None:
    assert [child.wait() for child in children] == [0] * len(children), "\n".join(child.told for child in children)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "encoder")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> dict[str, Any]:
    """A run of two epochs whose batches are of uneven lengths, the last one of three rows."""
    folder = tmp_path_factory.mktemp("data")
    data, held_out = (
        write_rows(folder / "train.jsonl", opinions(35)),
        write_rows(folder / "dev.csv", opinions(13, seed=1)),
    )
    files = {"train": data, "validation": held_out}
    return {"task": "text-classification", "encoder": encoder, **files, **OPTIONS}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, options: dict[str, Any]) -> Path:
    """The run in one process."""
    output = tmp_path_factory.mktemp("alone") / "run"
    finished([nursery.start(*command_line(options, output))])
    return output


@pytest.fixture(scope="module")
def long(options: dict[str, Any]) -> dict[str, Any]:
    """A run that is long enough to be stopped; over 50 updates, differences of rounding grow to 1e-5 of the loss."""
    return options | {"epochs": 10, "learning_rate": 3e-3}  # at 1e-3 it collapses, which is a status of its own


@pytest.fixture(scope="module")
def long_alone(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, long: dict[str, Any]) -> Path:
    output = tmp_path_factory.mktemp("long") / "run"
    finished([nursery.start(*command_line(long, output))])
    return output


def figures(folder: Path) -> dict[str, float]:
    told = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {name: told[name] for name in ("loss", "accuracy", "f1")}


def differing(one: Path, other: Path) -> list[str]:
    """Names of weights that differ by more than sums in another order do.

    Some biases shift scores that a softmax compares, all alike, so that their gradient is rounding noise, of which Adam
    makes steps: those of keys, and in question answering the head's and what goes into it unweighted.
    """
    expected, found = weights(one), weights(other)
    close = {name: torch.allclose(found[name], expected[name], rtol=1e-3, atol=1e-5) for name in expected}
    shifts = ("key.bias", *(("qa_outputs.bias", "layer.1.output.LayerNorm.bias") if "qa_outputs.bias" in close else ()))
    return [name for name in close if not close[name] and not name.endswith(shifts)]


@pytest.mark.parametrize("how", ["memory", "messages"])
def test_gradients_are_added(nursery: Nursery, tmp_path: Path, how: str) -> None:
    finished(nursery.ranks(3, tmp_path / "out.json", how, call="tests.distributed.work:add_gradients"))
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["kinds"] == [False, True, False, None, False, True, False]
    rows = [[6.0, 6.0], [2.0, 2.0], [4.0, 4.0], [6.0, 6.0], [0.0, 0.0], [0.0, 0.0]]
    assert found["values"] == [
        [[6.0] * 3] * 2,
        rows,
        rows,
        None,
        [[1.0] * 3] * 2,
        [[1.0, 1.0], [2.0, 2.0], *[[0.0, 0.0]] * 4],
        [[6.0] * 3] * 2,  # in bfloat16
    ]
    assert found["parts"] == [[], [0], [0, 1]]


@pytest.mark.slow
def test_a_time_limit_is_kept_and_ranks_agree_on_the_plan(
    nursery: Nursery, tmp_path: Path, options: dict[str, Any]
) -> None:
    output, began = tmp_path / "run", time.monotonic()
    finished(nursery.ranks(2, *command_line(options | {"epochs": 5000, "time_limit": "12s"}, output)))
    assert time.monotonic() - began < 12 * 1.05 + 4  # the clock begins when a process has started
    steps = json.loads((output / "metrics.json").read_text(encoding="utf-8"))["record"]["steps"]
    assert 10 < steps < 5 * 5000
    short = nursery.ranks(2, *command_line(options | {"time_limit": "0.01s"}, tmp_path / "short"))
    assert [child.wait() for child in short] == [2, 2]
    assert "give at least" in "".join(child.told for child in short)
    assert not (tmp_path / "short").exists()


@pytest.mark.parametrize("ranks", [2, 4])
def test_training_equals_one_process(
    nursery: Nursery, tmp_path: Path, options: dict[str, Any], alone: Path, ranks: int
) -> None:
    children = nursery.ranks(ranks, *command_line(options, tmp_path / "run"))
    finished(children)
    assert figures(tmp_path / "run") == pytest.approx(figures(alone), rel=1e-6)
    assert not differing(alone, tmp_path / "run")
    assert "accuracy" in children[0].told
    assert [child.told for child in children[1:]] == [""] * (ranks - 1)


def test_dropout_is_on_in_these_tests(nursery: Nursery, tmp_path: Path, options: dict[str, Any], alone: Path) -> None:
    """Without it the run is another."""
    encoder = write_encoder(tmp_path / "encoder", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    finished([nursery.start(*command_line(options | {"encoder": encoder}, tmp_path / "run"))])
    assert figures(tmp_path / "run")["loss"] != pytest.approx(figures(alone)["loss"], rel=1e-4)


def test_parts_of_a_batch_have_the_masks_of_the_whole(
    nursery: Nursery, tmp_path: Path, options: dict[str, Any], alone: Path
) -> None:
    finished([nursery.start(*command_line(options | {"gradient_accumulation": 3}, tmp_path / "run"))])
    assert figures(tmp_path / "run") == pytest.approx(figures(alone), rel=1e-6)


@pytest.mark.parametrize("more", [{"freelb": 0.1}, {"r_drop": 1.0, "fgm": 0.5}], ids=["freelb", "r-drop and fgm"])
def test_techniques_equal_one_process(
    nursery: Nursery, tmp_path: Path, options: dict[str, Any], more: dict[str, Any]
) -> None:
    run = options | more | {"max_steps": 4}
    finished([nursery.start(*command_line(run, tmp_path / "alone"))])
    finished(nursery.ranks(2, *command_line(run, tmp_path / "ranks")))
    assert figures(tmp_path / "ranks") == pytest.approx(figures(tmp_path / "alone"), rel=1e-6)


@pytest.mark.parametrize("task", ["token-classification", "question-answering", "embedding", "pretraining"])
def test_other_tasks_equal_one_process(nursery: Nursery, tmp_path: Path, task: str) -> None:
    """Losses divided by tokens, by answers, by pairs that are compared with each other, by masked words."""
    from tests.runs import prepare

    run = prepare(tmp_path, task)
    if "encoder" in run:
        run["encoder"] = write_encoder(tmp_path / "another")
    run |= {"precision": "fp32"}
    finished([nursery.start(*command_line(run, tmp_path / "alone"))])
    finished(nursery.ranks(2, *command_line(run, tmp_path / "ranks")))
    told = [json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8")) for name in ("alone", "ranks")]
    losses = [{name: value for name, value in one.items() if name.endswith("loss")} for one in told]
    assert losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert not differing(tmp_path / "alone", tmp_path / "ranks")


def test_gradient_accumulation_and_more_ranks_than_rows(
    nursery: Nursery, tmp_path: Path, options: dict[str, Any]
) -> None:
    run = options | {"batch_size": 3, "gradient_accumulation": 2, "max_steps": 4}
    finished([nursery.start(*command_line(run, tmp_path / "alone"))])
    finished(nursery.ranks(4, *command_line(run, tmp_path / "ranks")))
    assert figures(tmp_path / "ranks") == pytest.approx(figures(tmp_path / "alone"), rel=1e-6)


def test_resume_on_another_number_of_ranks(
    nursery: Nursery, tmp_path: Path, long: dict[str, Any], long_alone: Path
) -> None:
    """Stopped with three, gone on with two: the same data in the same order."""
    run, output = long | {"checkpoint_every": 2}, tmp_path / "run"
    (first, *others) = nursery.ranks(3, *command_line(run, output))
    others[0].until("", 1)
    while not list(output.glob("checkpoints/step-*")):
        assert not first.ended(), first.told
    others[1].send(signal.SIGTERM)  # to one of them
    assert [child.wait() for child in (first, *others)] == [143] * 3, first.told
    told = "".join(child.told for child in (first, *others))
    assert told.count("are kept in a checkpoint") == 1, told
    finished(nursery.ranks(2, *command_line(run, output), "--resume"))
    assert figures(output) == pytest.approx(figures(long_alone), rel=1e-5)


def test_a_restart_of_torchrun_goes_on(
    nursery: Nursery, tmp_path: Path, long: dict[str, Any], long_alone: Path
) -> None:
    """A rank is killed: the others stop with one message, the checkpoint is good, and the next attempt takes it up."""
    run, output = long | {"checkpoint_every": 1}, tmp_path / "run"
    children = nursery.ranks(3, *command_line(run, output))
    while not list(output.glob("checkpoints/step-*")):
        assert not children[0].ended(), children[0].told
    children[1].send(signal.SIGKILL)
    assert [child.wait(20) for child in children] == [1, -9, 1], children[0].told
    assert "".join(child.told for child in children).count("another rank stopped") == 1
    finished(nursery.ranks(3, *command_line(run, output), restart=1))
    assert figures(output) == pytest.approx(figures(long_alone), rel=1e-5)


@pytest.mark.parametrize("ranks", [2, 4])
def test_evaluation_and_prediction_of_any_number_of_rows(
    nursery: Nursery, tmp_path: Path, alone: Path, ranks: int
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = opinions(9, seed=5)
    rows[4] = {**rows[4], "text": "film " * 40}
    for count in range(1, 10):
        write_rows(folder / f"{count}.jsonl", rows[:count])
    one, many = tmp_path / "one.json", tmp_path / "many.json"
    work = {"call": "tests.distributed.work:evaluate_and_predict"}
    finished([nursery.start(alone, folder, one, call=work["call"])])
    finished(nursery.ranks(ranks, alone, folder, many, call=work["call"]))
    assert json.loads(many.read_text("utf-8")) == json.loads(one.read_text("utf-8"))
    for count in (1, 3, 9):
        command = ["predict", "--model", alone, "--input", folder / f"{count}.jsonl", "--output"]
        finished([nursery.start(*command, tmp_path / "one.jsonl")])
        finished(nursery.ranks(ranks, *command, tmp_path / "many.jsonl"))
        assert (tmp_path / "many.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
        assert not (tmp_path / "many.jsonl.parts").exists()


def test_shards_of_a_folder_by_different_numbers_of_ranks(nursery: Nursery, tmp_path: Path, alone: Path) -> None:
    data = write_rows(tmp_path / "data.jsonl", opinions(10, seed=5))
    command = ["predict", "--model", alone, "--input", data, "--device", "cpu", "--output"]
    finished([nursery.start(*command, tmp_path / "whole.jsonl")])
    command += [f"{tmp_path / 'parts'}/", "--rows-per-part", 1, "--shard"]
    finished([nursery.start(*command, "0/3"), *nursery.ranks(2, *command, "1/3"), *nursery.ranks(3, *command, "2/3")])
    parts = sorted((tmp_path / "parts").glob("part-*"))
    assert b"".join(part.read_bytes() for part in parts) == (tmp_path / "whole.jsonl").read_bytes()


def test_a_prediction_that_lost_a_rank_goes_on_in_one_process(nursery: Nursery, tmp_path: Path, alone: Path) -> None:
    data = write_rows(tmp_path / "data.jsonl", opinions(200, seed=5))
    command = ["predict", "--model", alone, "--input", data, "--device", "cpu", "--rows-per-part", 5, "--output"]
    finished([nursery.start(*command, tmp_path / "whole.jsonl")])
    children = nursery.ranks(3, *command, tmp_path / "out.jsonl", call="tests.distributed.work:predict_and_die")
    assert [child.wait(30) for child in children] == [1, -9, 1], [child.told for child in children]
    assert "".join(child.told for child in children).count("another rank stopped") == 1
    assert list((tmp_path / "out.jsonl.parts").glob("part-*"))
    finished([nursery.start(*command, tmp_path / "out.jsonl", "--resume")])
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_bad_input_is_told_once(nursery: Nursery, tmp_path: Path, options: dict[str, Any]) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "film", "label": "good"}\n{', encoding="utf-8")
    children = nursery.ranks(3, *command_line(options | {"train": bad}, tmp_path / "run"))
    assert [child.wait(30) for child in children] == [2, 2, 2]
    assert "".join(child.told for child in children).count("error:") == 1
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_shared_is_refused(nursery: Nursery, encoder: Path) -> None:
    children = nursery.ranks(2, "inspect", encoder)
    assert [child.wait(30) for child in children] == [2, 2]
    assert "".join(child.told for child in children).count("without torchrun") == 1


def test_seeds_side_by_side(nursery: Nursery, tmp_path: Path, options: dict[str, Any]) -> None:
    """Every rank trains whole seeds: the figures, the files and the best model are those of one process."""
    run = options | {"seeds": "1,2,3", "max_steps": 3}
    finished([nursery.start(*command_line(run, tmp_path / "alone"))])
    children = nursery.ranks(2, *command_line(run, tmp_path / "ranks"))
    finished(children)
    one, many = (json.loads((tmp_path / name / "seeds.json").read_text("utf-8")) for name in ("alone", "ranks"))
    assert (one["best"], list(one["seeds"])) == (many["best"], list(many["seeds"]))
    for seed in one["seeds"]:
        assert many["seeds"][seed]["loss"] == one["seeds"][seed]["loss"]
        assert same_weights(tmp_path / "alone" / f"seed-{seed}", tmp_path / "ranks" / f"seed-{seed}")
    assert same_weights(tmp_path / "alone", tmp_path / "ranks")
    assert "side by side" in children[0].told


def test_memory_that_runs_out_on_one_rank(
    nursery: Nursery, tmp_path: Path, options: dict[str, Any], alone: Path
) -> None:
    """For a moment: that rank goes on in smaller parts. For good: all stop, one says why, the checkpoint is good."""
    run, call = options | {"checkpoint_every": 1}, "tests.distributed.work:short_of_memory"
    children = nursery.ranks(2, 1, 1, *command_line(run, tmp_path / "once"), call=call)
    finished(children)
    assert figures(tmp_path / "once") == pytest.approx(figures(alone), rel=1e-6)
    children = nursery.ranks(3, 1, 99, *command_line(run, tmp_path / "run"), call=call)
    assert [child.wait(30) for child in children] == [1, 1, 1], [child.told for child in children]
    told = "".join(child.told for child in children)
    assert told.count("error:") == told.count("memory does not suffice for a single sequence") == 1, told
    finished(nursery.ranks(2, *command_line(run, tmp_path / "run"), "--resume"))
    assert figures(tmp_path / "run") == pytest.approx(figures(alone), rel=1e-6)


def test_folds_side_by_side(nursery: Nursery, tmp_path: Path, options: dict[str, Any]) -> None:
    """Every rank trains whole folds, and all of them the final model; what a stop leaves is gone on with."""
    run = {name: value for name, value in options.items() if name != "validation"} | {"folds": 3, "max_steps": 4}
    finished([nursery.start(*command_line(run, tmp_path / "alone"))])
    children = nursery.ranks(2, *command_line(run, tmp_path / "ranks"))
    finished(children)
    assert "side by side" in children[0].told

    def told(name: str, file: str) -> str:
        return (tmp_path / name / file).read_text("utf-8")

    assert told("ranks", "folds.json") == told("alone", "folds.json")
    assert told("ranks", "out_of_fold.jsonl") == told("alone", "out_of_fold.jsonl")
    assert not differing(tmp_path / "alone", tmp_path / "ranks")
    assert sorted(path.name for path in (tmp_path / "ranks").glob("fold-*")) == []
    stopped = tmp_path / "stopped"
    (first, second) = nursery.ranks(2, *command_line(run | {"epochs": 3}, stopped))
    while not list(stopped.glob("fold-2.done.json")):
        assert not second.ended(), second.told
    first.send(signal.SIGKILL)
    assert [first.wait(), second.wait(20)] == [-9, 1]
    again = nursery.ranks(2, *command_line(run | {"epochs": 3}, stopped), "--resume")
    finished(again)
    assert told("stopped", "out_of_fold.jsonl") == told("alone", "out_of_fold.jsonl")


def test_a_program_of_google(nursery: Nursery, tmp_path: Path, shared: Path) -> None:
    """Ranks train together and evaluate together; rank 0 writes."""
    tiny = shared / "golden/tiny"
    flags = ["--task_name=mrpc", f"--data_dir={shared / 'golden/finetuned'}", "--do_train", "--do_eval", "--device=cpu"]
    flags += [f"--vocab_file={tiny / 'vocab.txt'}", f"--bert_config_file={tiny / 'bert_config.json'}"]
    flags += [f"--init_checkpoint={tiny / 'bert_model.ckpt'}", "--max_seq_length=32", "--train_batch_size=6"]
    work = "tests.distributed.work:google_program"
    finished([nursery.start("run_classifier", *flags, f"--output_dir={tmp_path / 'alone'}", call=work)])
    finished(nursery.ranks(2, "run_classifier", *flags, f"--output_dir={tmp_path / 'ranks'}", call=work))
    results = []
    for name in ("alone", "ranks"):
        lines = (tmp_path / name / "eval_results.txt").read_text("utf-8").splitlines()
        results.append({key: float(value) for key, value in (line.split(" = ") for line in lines)})
    assert results[1] == pytest.approx(results[0], rel=1e-5)
    assert results[0]["global_step"] > 0


@pytest.mark.parametrize("program", ["run_classifier", "run_squad", "run_pretraining", "extract_features"])
def test_programs_of_google_share_what_they_compute(
    nursery: Nursery, tmp_path: Path, shared: Path, program: str
) -> None:
    """Evaluation, prediction and features: the files of one process, byte for byte."""
    golden, tiny = shared / "golden", shared / "golden/tiny"
    flags = [f"--bert_config_file={tiny / 'bert_config.json'}", f"--init_checkpoint={tiny / 'bert_model.ckpt'}"]
    flags += [f"--vocab_file={tiny / 'vocab.txt'}", "--device=cpu"]
    own = {
        "run_classifier": ["--task_name=mrpc", f"--data_dir={golden / 'finetuned'}", "--do_eval", "--do_predict"],
        "run_squad": [f"--predict_file={golden / 'squad/v2.json'}", "--do_predict", "--version_2_with_negative"],
        "run_pretraining": [f"--input_file={golden / 'pretraining/instances.tf_record'}", "--do_eval"],
        "extract_features": [f"--input_file={golden / 'features/input.txt'}", "--batch_size=2", "--layers=-1,0"],
    }[program]
    lengths = {"run_squad": ["--max_seq_length=64", "--doc_stride=16", "--max_query_length=12"]}
    lengths |= {"run_pretraining": PRETRAINING_LENGTHS, "run_classifier": ["--max_seq_length=32"]}
    flags += [*own, *lengths.get(program, ["--max_seq_length=32"])]
    work = "tests.distributed.work:google_program"
    for name, ranks in (("alone", 1), ("ranks", 3)):
        output = tmp_path / name
        place = f"--output_file={output / 'lines.jsonl'}" if program == "extract_features" else f"--output_dir={output}"
        if ranks == 1:
            finished([nursery.start(program, *flags, place, call=work)])
        else:
            finished(nursery.ranks(ranks, program, *flags, place, call=work))
    written = [
        {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file() and "tfevents" not in path.name
        }
        for name in ("alone", "ranks")
    ]
    assert written[0]
    assert written[1] == written[0]
