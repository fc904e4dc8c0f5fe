"""GLUE's files in the forms they ship in, and google-research/bert's own features of them."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertune.errors import InputError
from bertune.tasks.registry import new_task
from bertune.tasks.text_classification import TextClassification, TextExample
from bertune.tokenization.tokenizer import Tokenizer


def write(path: Path, *lines: str) -> Path:
    """Lines with fields that are separated by `|` here and by tabs in the file."""
    path.write_text("".join(line.replace("|", "\t") + "\n" for line in lines), encoding="utf-8")
    return path


def read(task: str, path: Path, *, labelled: bool = True, **options: Any) -> list[TextExample]:
    """All examples of a file."""
    return list(new_task(task, options).read(path, labelled=labelled))


def told(task: str, path: Path, *, labelled: bool = True, **options: Any) -> str:
    """What is said about a file."""
    with pytest.raises(InputError) as error:
        read(task, path, labelled=labelled, **options)
    return str(error.value)


MNLI = (
    "index|promptID|pairID|genre|sentence1_binary_parse|sentence2_binary_parse|sentence1_parse|sentence2_parse|"
    "sentence1|sentence2"
)
MNLI_ROW = "{}|31193|31193n|government|( a b )|( c )|(ROOT a)|(ROOT c)|"
XNLI = (
    "language|gold_label|sentence1_binary_parse|sentence2_binary_parse|sentence1_parse|sentence2_parse|sentence1|"
    "sentence2|promptID|pairID|genre|label1|label2|label3|label4|label5|sentence1_tokenized|sentence2_tokenized|match"
)


@pytest.mark.parametrize(
    ("task", "lines", "expected"),
    [
        (
            "mrpc",
            ["\ufeffQuality|#1 ID|#2 ID|#1 String|#2 String", '1|7|8|He said " so .|So he "', "0|9|10|A 'b .|C"],
            [('He said " so .', 'So he "', "1"), ("A 'b .", "C", "0")],
        ),
        (
            "cola",
            ["gj04|1||The sailors rode.", 'cj99|0|*|"More I would want'],
            [("The sailors rode.", None, "1"), ('"More I would want', None, "0")],
        ),
        (
            "sst2",
            ["sentence|label", "hide new secretions |0", '"contains |1'],
            [("hide new secretions ", None, "0"), ('"contains ', None, "1")],
        ),
        (
            "rte",
            ["index|sentence1|sentence2|label", "0|No weapons.|Weapons.|not_entailment", '1|A "b|B|entailment'],
            [("No weapons.", "Weapons.", "not_entailment"), ('A "b', "B", "entailment")],
        ),
        (
            "wnli",
            ["index|sentence1|sentence2|label", "0|I stuck a pin.|The carrot had a hole.|1", "1|A|B|0"],
            [("I stuck a pin.", "The carrot had a hole.", "1"), ("A", "B", "0")],
        ),
        (
            "qnli",
            ["index|question|sentence|label", "0|When did it end?|Later.|not_entailment", "1|Who?|She.|entailment"],
            [("When did it end?", "Later.", "not_entailment"), ("Who?", "She.", "entailment")],
        ),
        (
            "qqp",
            ["id|qid1|qid2|question1|question2|is_duplicate", "133273|213221|213222|How?|Why?|0", '1|2|3|"A"?|A?|1'],
            [("How?", "Why?", "0"), ('"A"?', "A?", "1")],
        ),
        (
            "mnli",
            [f"{MNLI}|label1|gold_label", MNLI_ROW.format(0) + "A b|C|contradiction|neutral"],
            [("A b", "C", "neutral")],
        ),
        (
            "mnli",
            [
                f"{MNLI}|label1|label2|label3|label4|label5|gold_label",
                MNLI_ROW.format(0) + "A b|C|neutral|entailment|neutral|entailment|entailment|contradiction",
                MNLI_ROW.format(1) + "D|E|a|b|c|d|e|entailment",
            ],
            [("A b", "C", "contradiction"), ("D", "E", "entailment")],
        ),
        (
            "xnli",
            ["premise|hypo|label", "从 概念 上 看|产品|neutral", '你 "们|他|contradictory', "a|b|entailment"],
            [("从 概念 上 看", "产品", "neutral"), ('你 "们', "他", "contradiction"), ("a", "b", "entailment")],
        ),
    ],
)
def test_training_and_development_files(
    tmp_path: Path, task: str, lines: list[str], expected: list[tuple[str, str | None, str]]
) -> None:
    found = read(task, write(tmp_path / "train.tsv", *lines))
    assert [(example.text, example.pair, example.label) for example in found] == expected
    first = 1 if task == "cola" else 2
    assert [example.place for example in found] == list(range(first, first + len(expected)))


@pytest.mark.parametrize(
    ("task", "lines", "expected"),
    [
        ("mrpc", ["index|#1 ID|#2 ID|#1 String|#2 String", "0|1|2|A|B"], ("A", "B")),
        ("cola", ["index|sentence", "0|Bill whistled."], ("Bill whistled.", None)),
        ("sst2", ["index|sentence", "0|uneasy mishmash"], ("uneasy mishmash", None)),
        ("rte", ["index|sentence1|sentence2", "0|A|B"], ("A", "B")),
        ("wnli", ["index|sentence1|sentence2", "0|A|B"], ("A", "B")),
        ("qnli", ["index|question|sentence", "0|A|B"], ("A", "B")),
        ("qqp", ["id|question1|question2", "0|A|B"], ("A", "B")),
        ("mnli", [MNLI, MNLI_ROW.format(0) + "A|B"], ("A", "B")),
    ],
)
def test_test_files(tmp_path: Path, task: str, lines: list[str], expected: tuple[str, str | None]) -> None:
    file = write(tmp_path / "test.tsv", *lines)
    (example,) = read(task, file, labelled=False)
    assert (example.text, example.pair, example.label) == (*expected, None)
    if task != "cola":  # a file with one column more or less is another file
        message = told(task, file)
        assert str(file) in message
        assert "labels" in message


def xnli_dev(path: Path) -> Path:
    """A development file of two languages."""
    rest = "|1|1|facetoface|neutral|neutral|neutral|neutral|neutral|t|t|True"
    row = "{}|{}|||||{}|{}" + rest
    return write(
        path,
        XNLI,
        row.format("ar", "neutral", "مرحبا", "أهلا"),
        row.format("zh", "contradiction", "你好", "再见"),
        row.format("zh", "entailment", "一", "二"),
    )


def test_xnli_by_language(tmp_path: Path) -> None:
    file = xnli_dev(tmp_path / "xnli.dev.tsv")
    found = read("xnli", file, language="zh")
    assert [(example.text, example.pair, example.label) for example in found] == [
        ("你好", "再见", "contradiction"),
        ("一", "二", "entailment"),
    ]
    assert [example.place for example in found] == [3, 4]
    assert [example.text for example in read("xnli", file, language="ar")] == ["مرحبا"]
    assert len(read("xnli", file)) == 3
    assert [example.pair for example in read("xnli", file, labelled=False, language="zh")] == ["再见", "二"]


def test_a_language_that_is_not_there(tmp_path: Path) -> None:
    message = told("xnli", xnli_dev(tmp_path / "xnli.dev.tsv"), language="de")
    assert all(part in message for part in ("xnli.dev.tsv", "'de'", "--language", "ar, zh"))


def test_the_language_means_nothing_to_translated_training_files(tmp_path: Path) -> None:
    file = write(tmp_path / "multinli.train.zh.tsv", "premise|hypo|label", "a|b|neutral")
    assert len(read("xnli", file, language="zh")) == 1


def test_a_file_of_another_task(tmp_path: Path) -> None:
    file = write(tmp_path / "train.tsv", "sentence|label", "a|1")
    message = told("mrpc", file)
    for part in (
        str(file),
        "mrpc",
        "'#1 String'",
        "'#2 String'",
        "'Quality'",
        "sentence, label",
        "text-classification",
    ):
        assert part in message


def test_a_row_of_cola_that_is_cut_short(tmp_path: Path) -> None:
    file = write(tmp_path / "train.tsv", "gj04|1||Fine.", "gj04|1")
    assert f"{file}, line 2" in told("cola", file)


def test_the_torn_records_of_qqp(tmp_path: Path) -> None:
    file = write(
        tmp_path / "train.tsv",
        "id|qid1|qid2|question1|question2|is_duplicate",
        "1|2|3|How?|Why?|0",
        '4|5|6|"Was he real?',
        '"|Was he a real person?|0',
        "7|8|9|Who?|What?|1",
    )
    assert [example.text for example in read("qqp", file)][-1] == "Who?"


@pytest.mark.parametrize(
    ("task", "metric"), [("mrpc", "accuracy"), ("cola", "matthews_correlation"), ("mnli", "accuracy")]
)
def test_metric_that_picks_the_model(task: str, metric: str) -> None:
    assert new_task(task).metric == metric
    assert new_task(task).name == task


def test_a_task_comes_back_from_json() -> None:
    task = new_task("xnli", {"language": "zh"})
    assert isinstance(task, TextClassification)
    examples = [TextExample("a", "b", label) for label in ("neutral", "entailment", "contradiction")]
    learnt = task.fit(examples, path=Path("x.tsv"), settings={})
    state = json.loads(json.dumps(learnt.to_json()))
    again = new_task("xnli", state["options"]).restored(state)
    assert isinstance(again, TextClassification)
    assert (again.name, again.labels, again.options) == (learnt.name, learnt.labels, learnt.options)
    assert again.labels == ("contradiction", "entailment", "neutral")  # as google-research/bert orders them


@pytest.mark.parametrize("length", [128, 32])
@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize(("task", "folder"), [("mrpc", "MRPC"), ("cola", "CoLA")])
def test_features_of_the_original(shared: Path, task: str, folder: str, split: str, length: int) -> None:
    lines = (shared / f"golden/classification/{task}.{split}.len{length}.jsonl").read_text(encoding="utf-8")
    expected = [json.loads(line) for line in lines.split("\n") if line]
    labelled = split != "test"
    path = shared / f"data/glue/{folder}/{split}.tsv"
    made = new_task(task)
    examples = list(islice(made.read(path, labelled=labelled), len(expected)))
    assert [(example.text, example.pair) for example in examples] == [
        (row["text_a"], row["text_b"]) for row in expected
    ]
    if labelled:
        assert [example.label for example in examples] == [row["label"] for row in expected]
    learnt = made.fit(list(made.read(path.with_name("dev.tsv"), labelled=True)), path=path, settings={})
    tokenizer = Tokenizer.from_vocab(shared / "golden/tiny/vocab.txt", do_lower_case=True)
    features = learnt.featurize(examples, tokenizer, length, purpose="train" if labelled else "predict")
    assert [features.input_ids[i].tolist() for i in range(len(features))] == [row["input_ids"] for row in expected]
    assert [features.segment_ids[i].tolist() for i in range(len(features))] == [row["segment_ids"] for row in expected]
    assert features.input_ids.lengths.tolist() == [row["length"] for row in expected]
    if labelled:
        labels = features.targets["label"]
        assert isinstance(labels, np.ndarray)
        assert labels.tolist() == [row["label_id"] for row in expected]
    else:
        assert not features.targets


@pytest.mark.parametrize(
    ("task", "path", "headers"),
    [
        ("mrpc", "MRPC/train.tsv", 1),
        ("mrpc", "MRPC/dev.tsv", 1),
        ("cola", "CoLA/train.tsv", 0),
        ("sst2", "SST-2/dev.tsv", 1),
    ],
)
def test_whole_files(shared: Path, task: str, path: str, headers: int) -> None:
    file = shared / "data/glue" / path
    found = read(task, file)
    assert len(found) == file.read_bytes().count(b"\n") - headers
    assert {example.label for example in found} == {"0", "1"}
    assert all(example.text.strip() for example in found)


def test_what_is_known_of_a_table_is_obeyed_or_refused(tmp_path: Path) -> None:
    (tmp_path / "sst2.tsv").write_bytes("sentence\tlabel\ncaf\u00e9 \u2019s \t0\n\u00fc\t1\n".encode("cp1252"))
    expected = [("caf\u00e9 \u2019s ", "0"), ("\u00fc", "1")]
    known: list[dict[str, Any]] = [{}, {"encoding": "cp1252"}]
    for options in known:
        assert [(one.text, one.label) for one in read("sst2", tmp_path / "sst2.tsv", **options)] == expected
    qqp = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tcaf\u00e9\nb\tc\t1\n"
    (tmp_path / "qqp.tsv").write_bytes(qqp.encode("utf-16"))
    assert [(one.text, one.pair) for one in read("qqp", tmp_path / "qqp.tsv")] == [("caf\u00e9 b", "c")]
    message = told("sst2", tmp_path / "sst2.tsv", delimiter=";", text_column="x", header=False)
    assert "--delimiter, --header, --text-column: GLUE's sst2 has columns of its own" in message
    assert "--encoding utf-99" in told("sst2", tmp_path / "sst2.tsv", encoding="utf-99")


def test_rows_without_a_label_may_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "rte.tsv", "index|sentence1|sentence2|label", "0|a|b|entailment", "1|c|d|")
    assert "line 3" in told("rte", path)
    assert len(read("rte", path, drop_unlabelled=True)) == 1
