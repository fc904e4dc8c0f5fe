"""GLUE and XNLI files by column number."""

from pathlib import Path

import pytest

from bertune.errors import InputError
from bertune.google.processors import PROCESSORS, Part, processor_of, read_part


def write(folder: Path, name: str, *rows: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row.replace(" ", "\t") + "\n" for row in rows), encoding="utf-8")


def told(folder: Path, task: str, part: Part, language: str = "zh") -> list[tuple[str, str | None, str | None]]:
    examples = read_part(processor_of(task)[1], folder, part, language)
    return [(example.text, example.pair, example.label) for example in examples]


def test_xnli_takes_the_rows_of_one_language(tmp_path: Path) -> None:
    write(tmp_path, "multinli/multinli.train.zh.tsv", "premise hypo label", "a b contradictory", "c d neutral")
    row = "{} entailment 2 3 4 5 first second"
    write(tmp_path, "xnli.dev.tsv", "header", row.format("de"), row.format("zh"), row.format("zh"))
    assert told(tmp_path, "XNLI", "train") == [("a", "b", "contradiction"), ("c", "d", "neutral")]
    assert told(tmp_path, "xnli", "dev") == [("first", "second", "entailment")] * 2
    assert len(told(tmp_path, "xnli", "dev", "de")) == 1
    with pytest.raises(InputError, match="no examples of language 'fr'"):
        told(tmp_path, "xnli", "dev", "fr")


def test_mnli_labels_stand_in_the_last_column_whatever_its_number(tmp_path: Path) -> None:
    wide = "0 1 2 3 4 5 6 7 first second neutral{} entailment"
    write(tmp_path, "train.tsv", "header", wide.format(""))
    write(tmp_path, "dev_matched.tsv", "header", wide.format(" neutral neutral"))
    write(tmp_path, "dev_mismatched.tsv", "header", wide.format("").replace("first", "other"))
    write(tmp_path, "test_matched.tsv", "header", "0 1 2 3 4 5 6 7 first second")
    assert told(tmp_path, "mnli", "train") == told(tmp_path, "mnli", "dev") == [("first", "second", "entailment")]
    assert told(tmp_path, "mnli-mm", "dev") == [("other", "second", "entailment")]
    assert told(tmp_path, "mnli", "test") == [("first", "second", None)]
    assert PROCESSORS["mnli"].labels == ("contradiction", "entailment", "neutral")


def test_quotes_are_ordinary_and_headers_where_they_are(tmp_path: Path) -> None:
    write(tmp_path, "train.tsv", 'src 1  "open', "src 0 * closed")
    write(tmp_path, "test.tsv", "index sentence", '0 "')
    assert told(tmp_path, "CoLA", "train") == [('"open', None, "1"), ("closed", None, "0")]
    assert told(tmp_path, "cola", "test") == [('"', None, None)]


def test_tasks_that_the_original_lacks(tmp_path: Path) -> None:
    write(tmp_path, "train.tsv", "sentence label", "text 1")
    write(tmp_path, "test.tsv", "index sentence", "0 text")
    assert told(tmp_path, "SST-2", "train") == told(tmp_path, "sst2", "train") == [("text", None, "1")]
    assert told(tmp_path, "sst-2", "test") == [("text", None, None)]
    write(tmp_path, "train.tsv", "id qid1 qid2 question1 question2 is_duplicate", "0 1 2 one two 1")
    write(tmp_path, "test.tsv", "id question1 question2", "0 one two")
    assert told(tmp_path, "qqp", "train") == [("one", "two", "1")]
    assert told(tmp_path, "qqp", "test") == [("one", "two", None)]
    write(tmp_path, "train.tsv", "index sentence1 sentence2 label", "0 one two not_entailment")
    assert told(tmp_path, "rte", "train") == told(tmp_path, "qnli", "train") == [("one", "two", "not_entailment")]


def test_unknown_tasks_are_sent_on() -> None:
    with pytest.raises(InputError, match=r"known: cola, mnli.*bertune train --task text-classification"):
        processor_of("sst")
    with pytest.raises(InputError, match="bertune train --task stsb"):
        processor_of("STS-B")


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dev\.tsv: cannot be read"):
        told(tmp_path, "mrpc", "dev")
    (tmp_path / "dev.tsv").write_bytes(b"h\n1\ta\tb\t\xff\td\n")
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        told(tmp_path, "mrpc", "dev")
    write(tmp_path, "dev.tsv", "header")
    with pytest.raises(InputError, match="no examples"):
        told(tmp_path, "mrpc", "dev")
