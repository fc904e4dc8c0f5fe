"""Which script's rules judge the answers to a file's questions: decided for the whole file, never by a gold answer."""

import re
from collections.abc import Sequence

from bertune.tasks.squad.answer_metrics import MLQA_LANGUAGES, SQUAD, AnswerMetric, answer_metric
from bertune.tasks.squad.reading import QuestionExample

_LOOKED_AT = 200  # questions, spread over the file
_CMRC_ID = re.compile(r"(TRAIN|DEV|TRIAL|TEST|CHALLENGE)_\d+_QUERY_\d+")
_MLQA_FILE = re.compile(r"context-[a-z]{2}-question-[a-z]{2}")
_LANGUAGE = re.compile(rf"(?<![a-z])({'|'.join(MLQA_LANGUAGES)})(?![a-z])")
_SCRIPTS = {"ar": "[\u0600-\u06ff]", "hi": "[\u0900-\u097f]", "vi": "[ăđơưạ-ỹ]"}
_LEAST_SHARE = 0.2
"""Share of a text's letters from which on it is taken for Chinese or Japanese."""


def choose_metric(examples: Sequence[QuestionExample], wanted: str = "auto") -> AnswerMetric:
    """The metric that `--qa-metric` names; auto: by the file's name, its ids and the script of its contexts.

    Chinese files are judged as CMRC 2018 does, or by MLQA's rules where their name says mlqa or xquad; Japanese ones by
    characters; files of MLQA in their language; all others by SQuAD's rules.
    """
    some = examples[:: max(1, len(examples) // _LOOKED_AT)]
    if not some:
        return SQUAD
    texts = "".join(f"{one.context[:2000]}{one.question}" for one in some)
    path = re.split(r": data\[|, (?:line|row) ", some[0].where.lower())[0]
    place = re.sub(r".*[/\\]", "", path)
    language = _language(place, texts)
    if wanted != "auto":
        return answer_metric(wanted, language)
    if "mlqa" in place or _MLQA_FILE.search(place) or ("xquad" in place and language == "zh"):
        return answer_metric("mlqa", language)
    if "cmrc" in place or all(_CMRC_ID.fullmatch(one.id) for one in some) or language == "zh":
        return answer_metric("cmrc")
    return answer_metric("characters" if language == "ja" else "squad")


def _language(place: str, texts: str) -> str:
    """A file's language: zh and ja by the script of its contexts, others by its name, then by script; else en."""
    letters = sum(char.isalpha() for char in texts) or 1
    kana = len(re.findall("[\u3041-\u30ff]", texts)) / letters
    if kana > _LEAST_SHARE / 4:
        return "ja"
    if len(re.findall("[\u3400-\u9fff]", texts)) / letters > _LEAST_SHARE:
        return "zh"
    if named := _LANGUAGE.search(place):
        return named[1]
    by_script = (
        code for code, script in _SCRIPTS.items() if len(re.findall(script, texts)) / letters > _LEAST_SHARE / 4
    )
    return next(by_script, "en")
