"""Parity with google-research/bert: features line for line, predictions byte for byte."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bertune.errors import InputError
from bertune.google.squad_decoding import (
    GoogleDecoding,
    GooglePredictions,
    final_text,
    google_decode,
    write_google_predictions,
)
from bertune.google.squad_exact import GoogleExample, GoogleFeatures, google_examples, google_features
from bertune.tasks.squad.reading import Answer, QuestionExample, read_questions
from bertune.tokenization.tokenizer import Tokenizer

MakeQuestion = Callable[..., QuestionExample]
LENGTHS = [(384, 128, 64), (96, 32, 24)]


def prepare(
    folder: Path, tokenizer: Tokenizer, version: int, training: bool, lengths: tuple[int, int, int]
) -> tuple[list[GoogleExample], GoogleFeatures, str]:
    """Examples and features of a recorded run, and how its files' names begin."""
    questions, _ = read_questions(folder / f"v{version}.json", labelled=training, strict=False)
    examples, skipped = google_examples(questions, training=training, version_2=version == 2)
    assert skipped == []
    features = google_features(
        examples,
        tokenizer,
        training=training,
        max_seq_length=lengths[0],
        doc_stride=lengths[1],
        max_query_length=lengths[2],
    )
    mode = "train" if training else "eval"
    return examples, features, f"v{version}.{mode}.len{lengths[0]}.stride{lengths[1]}.query{lengths[2]}"


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("version", [1, 2])
def test_features_line_for_line(
    shared: Path, google_tokenizer: Tokenizer, version: int, training: bool, lengths: tuple[int, int, int]
) -> None:
    folder = shared / "golden/squad"
    examples, features, name = prepare(folder, google_tokenizer, version, training, lengths)
    lines = (folder / f"{name}.features.jsonl").read_text().splitlines()
    for index, line in enumerate(lines):
        begin = int(features.context_start[index])
        mine: dict[str, object] = {
            "unique_id": int(features.unique_id[index]),
            "example_index": int(features.example_index[index]),
            "qas_id": examples[int(features.example_index[index])].id,
            "doc_span_index": int(features.doc_span_index[index]),
            "input_ids": features.input_ids[index].tolist(),
            "segment_ids": features.segment_ids[index].tolist(),
        }
        if training:
            mine["start_position"] = int(features.start_position[index])
            mine["end_position"] = int(features.end_position[index])
            mine["is_impossible"] = bool(features.is_impossible[index])
        else:
            words, best = features.words[index].tolist(), features.max_context[index].tolist()
            mine["token_to_orig_map"] = {str(begin + place): word for place, word in enumerate(words)}
            mine["token_is_max_context"] = {str(begin + place): bool(mark) for place, mark in enumerate(best)}
        assert json.dumps(mine) == line
    counts = {"examples": len(examples), "features": len(features)}
    expected = folder / f"{name}.counts.json"
    assert counts == (json.loads(expected.read_text()) if expected.exists() else {**counts, "examples": 322})


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("version", [1, 2])
def test_predictions_byte_for_byte(
    shared: Path, tmp_path: Path, google_tokenizer: Tokenizer, version: int, lengths: tuple[int, int, int]
) -> None:
    folder = shared / "golden/squad"
    examples, features, name = prepare(folder, google_tokenizer, version, False, lengths)
    with np.load(folder / f"{name}.logits.npz") as logits:
        np.testing.assert_array_equal(logits["unique_id"], features.unique_id)
        result = google_decode(
            examples,
            features,
            logits["start_logits"],
            logits["end_logits"],
            google_tokenizer,
            GoogleDecoding(version_2_with_negative=version == 2),
        )
    kinds = ["predictions", "nbest_predictions", *(["null_odds"] if version == 2 else [])]
    write_google_predictions(result, *(tmp_path / kind for kind in kinds))
    for kind in kinds:
        assert (tmp_path / kind).read_bytes() == (folder / f"{name}.{kind}.json").read_bytes(), kind


def test_final_text(shared: Path) -> None:
    cases = json.loads((shared / "golden/squad/final_text.json").read_text())
    assert len(cases) > 10
    for case in cases:
        tokenizer = Tokenizer.from_vocab(shared / "golden/tiny/vocab.txt", do_lower_case=case["do_lower_case"])
        assert final_text(case["pred_text"], case["orig_text"], tokenizer.basic) == case["final_text"], case


def test_final_text_of_nothing(tokenizer: Tokenizer) -> None:
    assert final_text("", "New York", tokenizer.basic) == "New York"


def one(context: str, answer: str, start: int, *, impossible: bool = False) -> QuestionExample:
    answers = (Answer(answer, start),) if answer else ()
    return QuestionExample("q", "who won?", context, answers, impossible, None, "here")


def test_words_split_at_narrow_white_space_only() -> None:
    examples, _ = google_examples([one(" the\u202fteam\t\u00a0won\n", "", 0)], training=False, version_2=False)
    assert examples[0].words == ("the", "team", "\u00a0won")


@pytest.mark.parametrize(
    ("context", "answer", "start", "kept"),
    [
        ("The Lions won.", "Lions", 4, True),
        ("The Lions won.", "Lions", 5, True),  # the offset may be wrong as long as the words contain the answer
        ("The Lions won.", "Lions", 0, True),
        ("The Lions won.", "won", 0, False),  # and here they do not
        ("The Lions won.", "lions", 4, False),
        ("The Lions won.", "Lions \n won", 3, True),  # white space of the answer is normalised
        ("The  Lions won.", "The  Lions", 0, True),
        ("The\u00a0Lions won", "The\u00a0Lions", 0, False),  # a no-break space: one word here, two to str.split
    ],
)
def test_questions_that_training_skips(context: str, answer: str, start: int, kept: bool) -> None:
    examples, skipped = google_examples([one(context, answer, start)], training=True, version_2=False)
    assert (len(examples), skipped) == ((1, []) if kept else (0, ["q"]))


def test_answers_are_tightened_to_their_tokens(tokenizer: Tokenizer) -> None:
    """A word may hold more than the answer; the first place where the answer's tokens stand counts."""
    for context, answer, expected in [
        ("the (team) won", "team", (2, 2)),
        ("the (team) won", "(team", (1, 2)),
        ("who won-won?", "won", (1, 1)),  # the second one is meant, but the first one matches
        ("who playeds won", "play", (1, 1)),
        (" team", " team", (0, 0)),  # the white space belongs to no word, yet the answer is found
    ]:
        examples, _ = google_examples([one(context, answer, context.rindex(answer))], training=True, version_2=False)
        features = google_features(examples, tokenizer, training=True)
        begin = int(features.context_start[0])
        assert (int(features.start_position[0]) - begin, int(features.end_position[0]) - begin) == expected


def test_an_answer_whose_tokens_do_not_stand_there_keeps_its_words(tokenizer: Tokenizer) -> None:
    examples, _ = google_examples([one("who playing won", "layin", 5)], training=True, version_2=False)
    features = google_features(examples, tokenizer, training=True)
    begin = int(features.context_start[0])
    assert tokenizer.tokenize("who playing won") == ["who", "play", "##ing", "won"]
    assert (int(features.start_position[0]) - begin, int(features.end_position[0]) - begin) == (1, 2)


def test_training_refuses_what_the_original_refuses() -> None:
    two = QuestionExample("two", "who?", "a b", (Answer("a", 0), Answer("b", 2)), False, None, "here")
    far = QuestionExample("far", "who?", "a b", (Answer("b", 7),), False, None, "there")
    none = QuestionExample("none", "who?", "a b", (), True, None, "there")
    with pytest.raises(InputError, match="3 problems") as caught:
        google_examples([two, far, none], training=True, version_2=False)
    for part in ("'two') has 2 answers", "'far'): answer_start 7", "version_2_with_negative"):
        assert part in str(caught.value)
    assert len(google_examples([two, far, none], training=False, version_2=True)[0]) == 3
    assert google_examples([none], training=True, version_2=True)[0][0].is_impossible


def decode(tokenizer: Tokenizer, context: str, options: GoogleDecoding, start: int, end: int) -> GooglePredictions:
    """Decode one window whose highest logits (9 and 8) are at two positions; every other logit is 0."""
    examples, _ = google_examples([one(context, "", 0)], training=False, version_2=True)
    features = google_features(examples, tokenizer, training=False)
    rows = np.zeros((2, max(len(features), 1), 384))
    rows[0, 0, start] = 9.0
    rows[1, 0, end] = 8.0
    return google_decode(examples, features, rows[0], rows[1], tokenizer, options)


def test_version_2_without_any_candidate_predicts_nothing(tokenizer: Tokenizer) -> None:
    """The best positions lie in the question alone; the original crashes here."""
    options = GoogleDecoding(n_best_size=1, version_2_with_negative=True)
    result = decode(tokenizer, "the team won", options, 1, 2)
    assert result.predictions == {"q": ""}
    assert [entry.text for entry in result.nbest["q"]] == [""]
    assert result.null_odds == {"q": 0.0}


def test_version_1_without_any_candidate_predicts_the_word_empty(tokenizer: Tokenizer) -> None:
    result = decode(tokenizer, "the team won", GoogleDecoding(n_best_size=1), 1, 2)
    assert result.predictions == {"q": "empty"}
    assert (result.nbest["q"][0].probability, result.null_odds) == (1.0, {})


def test_a_context_without_words_has_no_windows(tokenizer: Tokenizer) -> None:
    examples, _ = google_examples([one("\n", "", 0), one("won", "", 0)], training=False, version_2=True)
    assert google_features(examples, tokenizer, training=False).example_index.tolist() == [1]
    result = decode(tokenizer, "\n", GoogleDecoding(version_2_with_negative=True), 0, 0)
    assert result.predictions == {"q": ""}


def test_the_null_threshold(tokenizer: Tokenizer) -> None:
    for threshold, answer in [(-17.5, ""), (-17.0, "Team"), (0.0, "Team")]:
        options = GoogleDecoding(version_2_with_negative=True, null_score_diff_threshold=threshold)
        result = decode(tokenizer, "the Team won", options, 6, 6)
        assert result.null_odds == {"q": -17.0}
        assert result.predictions == {"q": answer}


def test_answers_are_not_longer_than_allowed(tokenizer: Tokenizer) -> None:
    texts = {
        entry.text for entry in decode(tokenizer, "the team won", GoogleDecoding(max_answer_length=1), 5, 7).nbest["q"]
    }
    assert texts == {"the", "team", "won"}


def test_files_are_ascii_with_four_spaces(tmp_path: Path, tokenizer: Tokenizer) -> None:
    result = decode(tokenizer, "水", GoogleDecoding(), 5, 5)
    write_google_predictions(result, tmp_path / "p", tmp_path / "n")
    assert (tmp_path / "p").read_text() == '{\n    "q": "\\u6c34"\n}\n'
    assert (
        (tmp_path / "n")
        .read_text()
        .startswith(
            '{\n    "q": [\n        {\n            "text": "\\u6c34",\n            "probability": 1.0,\n'
            '            "start_logit": 9.0,\n            "end_logit": 8.0\n        }\n'
        )
    )
