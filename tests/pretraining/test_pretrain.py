"""`bertune pretrain` from end to end: what it learns, writes, takes over, refuses; and `bertune vocab`."""

import gzip
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

import bertune
from bertune.checkpoints import google
from bertune.errors import InputError
from bertune.network import pack
from bertune.pretraining.initial_model import open_initial_model
from bertune.pretraining.options import PretrainOptions
from bertune.pretraining.pretrain import pretrain
from bertune.tasks.masking.head import PretrainingHead
from bertune.tasks.masking.scores import NEXT
from bertune.tensorflow_formats.tfrecord import write_records
from tests import tiny

SUBJECTS = {"film": "good", "is": "bad", "the": "fine"}
FAST = ("--max-seq-length", "24", "--batch-size", "16", "--learning-rate", "1e-2", "--device", "cpu", "--epochs", "2")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path / "cache"))


def corpus(path: Path, documents: int = 120, sentences: int = 4) -> Path:
    """Documents whose sentences repeat one of three phrases, so that a masked word can be told from its neighbours."""
    rng = random.Random(0)
    texts = []
    for _ in range(documents):
        subject = rng.choice(list(SUBJECTS))
        texts.append("\n".join(f"{subject} {SUBJECTS[subject]} {rng.choice('abc')}" for _ in range(sentences)))
    text = "\n\n".join(texts) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def run(capsys: pytest.CaptureFixture[str], folder: Path, *more: object) -> tuple[Path, dict[str, float]]:
    """Pre-train the tiny encoder on a corpus; its folder and its metrics."""
    if not (folder / "encoder").exists():
        tiny.write_encoder(folder / "encoder")
    text = corpus(folder / "text.txt")
    output = folder / "model"
    options = ["--encoder", folder / "encoder", "--train", text, "--output", output, "--json", *FAST, *more]
    answer = tiny.done(capsys, "pretrain", *options)
    return output, json.loads(answer.out)


def test_a_short_run_lowers_the_held_out_loss_and_its_folder_answers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output, metrics = run(capsys, tmp_path, "--epochs", "8")
    assert metrics["masked_lm_loss"] < 0.7 * metrics["before_masked_lm_loss"]
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["masked_lm_loss"]))
    assert metrics["masked_lm_accuracy"] > metrics["before_masked_lm_accuracy"]
    written = json.loads((output / "metrics.json").read_text())
    assert written["masked_lm_loss"] == metrics["masked_lm_loss"]

    model = bertune.load(output, device="cpu", precision="fp32")
    best = model.fill_mask("film good a film [MASK] b", top_k=3)
    assert len(best) == 3
    assert best[0]["text"] == f"film good a film {best[0]['token'].removeprefix('##')} b"
    two = model.predict(["is [MASK] a is bad [MASK]"])[0]
    assert [(one["start"], one["end"]) for one in two["masks"]] == [(3, 9), (19, 25)]
    assert "[MASK]" not in two["text"]

    theirs = AutoModelForMaskedLM.from_pretrained(output).eval()
    ids = [model.tokenizer.special.cls, *model.tokenizer.encode(["film"])[0], model.tokenizer.special.mask]
    found = model.fill_mask("film [MASK]", top_k=5)
    with torch.no_grad():
        expected = theirs(torch.tensor([[*ids, model.tokenizer.special.sep]])).logits[0, -2].softmax(0)
    for one in found:
        assert one["score"] == pytest.approx(float(expected[model.tokenizer.id_of(one["token"]) or 0]), abs=1e-5)


def test_how_long_it_will_take_is_told_before_it_starts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tiny.write_encoder(tmp_path / "encoder")
    options = ["--encoder", tmp_path / "encoder", "--train", corpus(tmp_path / "text.txt"), "--max-steps", 4, *FAST]
    told = tiny.done(capsys, "pretrain", *options, "--output", tmp_path / "model").err
    updates = r"sequences? on cpu in \w+: 4 updates of 16 sequences, [\d.]+ pass(es)?; about \d+ (s|min)"
    assert re.search(updates, told), told


def test_predict_and_evaluate_work_on_its_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output, _ = run(capsys, tmp_path)
    (tmp_path / "asked.txt").write_text("film [MASK]\nthe [MASK] a the [MASK]\n" + "film good a " * 20 + "[MASK] a\n")
    answers = tmp_path / "answers.jsonl"
    tiny.done(
        capsys, "predict", "--model", output, "--input", tmp_path / "asked.txt", "--output", answers, "--top-k", 2
    )
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [len(row["masks"]) for row in rows] == [1, 2, 1]
    assert all(len(mask["candidates"]) == 2 for row in rows for mask in row["masks"])
    answer = tiny.done(capsys, "evaluate", "--model", output, "--data", tmp_path / "text.txt", "--json")
    assert json.loads(answer.out)["masked_lm_loss"] > 0
    (tmp_path / "none.txt").write_text("film [MASK]\nno mask\n")
    tiny.refused(
        capsys,
        tmp_path,
        ["predict", "--model", output, "--input", tmp_path / "none.txt", "--output", tmp_path / "x.jsonl"],
        "none.txt, line 2",
    )


def test_next_sentence_is_learnt_and_loaded_by_transformers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output, metrics = run(capsys, tmp_path, "--next-sentence", "--epochs", "6", "--learning-rate", "5e-3")
    assert "next_sentence_accuracy" in metrics
    assert metrics["loss"] == pytest.approx(metrics["masked_lm_loss"] + metrics["next_sentence_loss"])
    theirs = AutoModelForPreTraining.from_pretrained(output)
    config = json.loads((output / "config.json").read_text())
    assert config["architectures"] == ["BertForPreTraining"]
    stored = tiny.weights(output)
    torch.testing.assert_close(theirs.cls.predictions.decoder.weight, stored["bert.embeddings.word_embeddings.weight"])
    torch.testing.assert_close(theirs.cls.predictions.decoder.bias, stored["cls.predictions.bias"])
    torch.testing.assert_close(theirs.cls.seq_relationship.weight, stored["cls.seq_relationship.weight"])

    model = bertune.load(output, device="cpu", precision="fp32")
    features = model.task.featurize([model.task.example("film [MASK] a")], model.tokenizer, 24, purpose="evaluate")
    batch = pack(features, np.arange(1))
    real = batch.input_ids[: batch.layout.real][None]
    with torch.no_grad():
        ours = model.network(batch)[batch.layout.starts, NEXT]
        logits = theirs.eval()(real).seq_relationship_logits
    torch.testing.assert_close(ours, logits, atol=1e-5, rtol=0)

    # What continues it takes over both heads, and next sentence is on without being asked for.
    options = PretrainOptions(encoder=str(output), train=[], output="x")
    with open_initial_model(options) as start:
        head = start.network(next_sentence=True).head
    assert isinstance(head, PretrainingHead)
    torch.testing.assert_close(head.masked_lm.output_bias.data, stored["cls.predictions.bias"])
    assert head.next_sentence is not None
    torch.testing.assert_close(head.next_sentence.weight.data, stored["cls.seq_relationship.weight"])
    again = tiny.done(
        capsys, "pretrain", "--encoder", output, "--train", tmp_path / "text.txt", "--output", tmp_path / "more",
        "--max-steps", 2, "--json", *FAST,
    )  # fmt: skip
    assert json.loads(again.out)["before_masked_lm_loss"] == pytest.approx(metrics["masked_lm_loss"], rel=0.02)


def test_the_result_is_an_encoder_to_fine_tune(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output, _ = run(capsys, tmp_path)
    (tmp_path / "fine").mkdir()
    data = tiny.write_rows(tmp_path / "fine" / "train.jsonl", tiny.opinions(32))
    trained = tmp_path / "fine" / "model"
    options = ["--task", "text-classification", "--encoder", output, "--train", data, "--output", trained]
    tiny.done(capsys, "train", *options, *tiny.FAST)
    assert (trained / "bertune.json").is_file()


def test_a_run_goes_on_as_if_it_had_not_stopped(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertune.training.run_folder.folder import RunFolder

    (tmp_path / "a").mkdir()
    whole, expected = run(capsys, tmp_path / "a")
    save, saved = RunFolder.save_checkpoint, []

    def stopping(self: RunFolder, *arguments: object) -> None:
        save(self, *arguments)  # type: ignore[arg-type]
        saved.append(arguments)
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save_checkpoint", stopping)
    options = {
        "encoder": tmp_path / "a" / "encoder",
        "train": tmp_path / "a" / "text.txt",
        "output": tmp_path / "b",
        "max_seq_length": 24,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "device": "cpu",
        "epochs": 2.0,
    }
    with pytest.raises(KeyboardInterrupt):
        pretrain(**options)
    monkeypatch.undo()
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path / "cache"))
    result = pretrain(**options, resume=True)
    for name in ("masked_lm_loss", "before_masked_lm_loss"):
        assert result.metrics[name] == expected[name]
    assert tiny.same_weights(whole, tmp_path / "b")


def test_tables_whole_words_and_segmented_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    texts = [{"body": f"good{letter}xyz film. The bad film is {letter}."} for letter in "abcdefghijklmnopqrst" * 2]
    table = tiny.write_rows(tmp_path / "train.jsonl.gz", texts)
    whole = (
        "--whole-words",
        "--words",
        "spaces",
        "--text-column",
        "body",
        "--validation-share",
        "0.3",
        "--max-steps",
        2,
    )
    _, metrics = run(capsys, tmp_path, *whole, "--train", table)
    assert metrics["steps"] == 2
    assert np.isfinite(metrics["masked_lm_loss"])


def test_from_scratch_with_a_vocabulary_of_its_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = corpus(tmp_path / "text.txt.gz")
    vocabulary = tmp_path / "vocab.txt"
    tiny.done(capsys, "vocab", "--train", text, "--size", 100, "--output", vocabulary, "--min-frequency", 1)
    tokens = vocabulary.read_text().splitlines()
    assert tokens[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert {"film", "good", "##ood"} & set(tokens)
    sizes = {key: value for key, value in tiny.SIZES.items() if key != "vocab_size"}
    config = tiny.write_json(tmp_path / "bert_config.json", sizes | {"vocab_size": len(tokens), "hidden_act": "gelu"})
    start = ["--encoder-config", config, "--vocab", vocabulary, "--train", text, "--output", tmp_path / "model"]
    tiny.done(capsys, "pretrain", *start, *FAST)
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    assert written["hidden_act"] == "gelu_new"  # Google's config means the tanh form
    assert written["vocab_size"] == len(tokens)


def test_added_words_start_as_the_mean_of_their_pieces(tmp_path: Path) -> None:
    encoder = tiny.write_encoder(tmp_path / "encoder")
    words = tmp_path / "words.txt"
    words.write_text("Gradient\nfilm\n\nxyz\ngradient\n")
    options = PretrainOptions(encoder=str(encoder), train=[], output="x", add_tokens=str(words))
    with open_initial_model(options) as start:
        network = start.network(next_sentence=False)
    old = len(tiny.VOCABULARY)
    assert start.tokenizer.vocab_size == network.encoder.config.vocab_size == old + 2
    assert start.tokenizer.tokenize("a Gradient of xyz") == ["a", "gradient", "o", "##f", "xyz"]
    table = tiny.weights(encoder)["embeddings.word_embeddings.weight"]
    pieces = [tiny.VOCABULARY.index(piece) for piece in ("x", "##y", "##z")]
    torch.testing.assert_close(network.encoder.embeddings.word.weight.data[old + 1], table[pieces].mean(0))
    torch.testing.assert_close(network.encoder.embeddings.word.weight.data[:old], table)
    head = network.head
    assert isinstance(head, PretrainingHead)
    assert head.masked_lm.output_bias.shape == (old + 2,)


def test_added_words_must_be_words(tmp_path: Path) -> None:
    encoder, words = tiny.write_encoder(tmp_path / "encoder"), tmp_path / "words.txt"
    words.write_text("good\ntwo words\nwell-known\n")
    options = PretrainOptions(encoder=str(encoder), train=[], output="x", add_tokens=str(words))
    told = r"(?s)line 2: 'two words' is 2 words.*line 3: 'well-known' is 3 words"
    with pytest.raises(InputError, match=told), open_initial_model(options):
        pass


def records(count: int, length: int = 16) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        ids = np.zeros(length, np.int64)
        ids[:9] = [2, *rng.integers(5, 40, 4), 3, *rng.integers(5, 40, 2), 3]
        ids[2] = 4
        made.append(
            {
                "input_ids": ids,
                "input_mask": (np.arange(length) < 9).astype(np.int64),
                "segment_ids": ((np.arange(length) > 5) & (np.arange(length) < 9)).astype(np.int64),
                "masked_lm_positions": np.array([2, 0, 0]),
                "masked_lm_ids": np.array([7, 0, 0]),
                "masked_lm_weights": np.array([1, 0, 0], np.float32),
                "next_sentence_labels": np.array([i % 2]),
            }
        )
    return made


def test_instances_of_the_original_are_trained_on_as_they_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    encoder = tiny.write_encoder(tmp_path / "encoder")
    for name, count in (("train-0.tf_record", 24), ("train-1.tf_record", 24), ("dev.tf_record", 8)):
        write_records(tmp_path / name, records(count))
    answer = tiny.done(
        capsys, "pretrain", "--encoder", encoder, "--train", tmp_path / "train-*.tf_record", "--validation",
        tmp_path / "dev.tf_record", "--output", tmp_path / "model", "--json", *FAST, "--epochs", 8,
    )  # fmt: skip
    metrics = json.loads(answer.out)
    assert metrics["masked_lm_accuracy"] == 1.0  # the masked word is always the same
    assert metrics["steps"] == 24
    assert json.loads((tmp_path / "model" / "bertune.json").read_text())["max_seq_length"] == 16


def test_instances_of_other_lengths_or_broken_ones_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    encoder = tiny.write_encoder(tmp_path / "encoder")
    base = ["pretrain", "--encoder", encoder, "--output", tmp_path / "model", "--cache", tmp_path / "cache2", *FAST]
    write_records(tmp_path / "a.tf_record", records(3))
    write_records(tmp_path / "b.tf_record", records(3, length=20))
    mixed = [*base, "--train", tmp_path / "a.tf_record", tmp_path / "b.tf_record"]
    (tmp_path / "cache2").mkdir()
    assert_refused(capsys, mixed, "b.tf_record, record 0 (from 0)", "has 20 tokens", "have 16")
    data = bytearray((tmp_path / "a.tf_record").read_bytes())
    data[-20] ^= 1
    (tmp_path / "c.tf_record").write_bytes(data)
    assert_refused(capsys, [*base, "--train", tmp_path / "c.tf_record"], "c.tf_record, record 2 (from 0)", "checksum")
    strange = records(2)
    strange[1]["input_ids"][1] = 5000
    write_records(tmp_path / "d.tf_record", strange)
    assert_refused(capsys, [*base, "--train", tmp_path / "d.tf_record"], "record 1 (from 0): input_ids holds 5000")
    write_records(tmp_path / "e.tf_record", records(3, length=100))
    assert_refused(capsys, [*base, "--train", tmp_path / "e.tf_record"], "instances of 100 tokens", "64 positions")
    assert not (tmp_path / "model").exists()


def assert_refused(capsys: pytest.CaptureFixture[str], arguments: list[object], *told: str) -> None:
    """Status 2 and a message; the cache of corpora may be written to."""
    answer = tiny.bertune(capsys, *arguments)
    assert answer.status == 2, answer.err
    assert "Traceback" not in answer.err
    for part in told:
        assert part in answer.err, answer.err


def test_bad_input_is_told_all_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    encoder = tiny.write_encoder(tmp_path / "encoder")
    text = corpus(tmp_path / "text.txt", documents=6)
    tiny.refused(
        capsys,
        tmp_path,
        ["pretrain", "--encoder", encoder, "--vocab", "v", "--train", tmp_path / "absent*", "--output", tmp_path / "m",
         "--batch-size", 0, "--mask-probability", 2],
        "--batch-size 0", "either --encoder", "absent*", "--mask-probability 2",
    )  # fmt: skip
    base = ["pretrain", "--encoder", encoder, "--output", tmp_path / "m", "--max-seq-length", 24]
    tiny.refused(capsys, tmp_path, [*base, "--train", text, "--validation", text], "is the same text as")
    assert_refused(capsys, [*base, "--train", text, "--max-seq-length", 100], "--max-seq-length 100", "64 positions")
    single = tmp_path / "single.txt"
    single.write_text("film good\nfilm bad\n\nalone\n\nthe film\nis bad\n")
    assert_refused(
        capsys, [*base, "--train", single, "--next-sentence", "--validation-share", 0], "single.txt, line 4", "1 of 3"
    )
    assert_refused(capsys, [*base, "--train", single, "--validation-share", 0.001], "none of the 3 documents")


def test_vocabularies_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = corpus(tmp_path / "text.txt", documents=6)
    config = tiny.write_json(tmp_path / "bert_config.json", tiny.SIZES | {"hidden_act": "gelu"})
    base = ["pretrain", "--encoder-config", config, "--train", text, "--output", tmp_path / "m", *FAST]
    for name, tokens, told in (
        ("short.txt", tiny.VOCABULARY[:-1], f"vocab_size {len(tiny.VOCABULARY)}"),
        ("unmasked.txt", ["[MASQUE]" if token == "[MASK]" else token for token in tiny.VOCABULARY], "lacks [MASK]"),
    ):
        (tmp_path / name).write_text("\n".join(tokens) + "\n")
        tiny.refused(capsys, tmp_path, [*base, "--vocab", tmp_path / name], name, told)
    tiny.refused(capsys, tmp_path, ["vocab", "--train", text, "--size", 10, "--output", text], "--size 10", "exists")


def test_other_families_are_refused(tmp_path: Path) -> None:
    encoder = tiny.write_encoder(tmp_path / "encoder", model_type="roberta", architectures=["RobertaModel"])
    with (
        pytest.raises(InputError, match="is of family roberta"),
        open_initial_model(PretrainOptions(encoder=str(encoder), train=[], output="x")),
    ):
        pass


def test_heads_of_a_google_checkpoint_are_taken_over(shared: Path, tmp_path: Path) -> None:
    with open_initial_model(
        PretrainOptions(encoder=str(shared / "golden/tiny"), train=[], output=str(tmp_path))
    ) as start:
        assert start.masked_lm is not None
        assert {line.ours for line in google.HEADS["masked-lm"]} == start.masked_lm.keys()
        assert start.next_sentence is not None
