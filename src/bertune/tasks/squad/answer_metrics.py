"""How one answer is compared with a gold answer: SQuAD's, CMRC 2018's and MLQA's own scripts, as definitions.

* `squad`: Rajpurkar et al., 2016 and 2018 (evaluate-v2.0.py). Lower case, no ASCII punctuation, no English articles;
  F1 of bags of words.
* `mlqa`: Lewis et al., 2020 (mlqa_evaluation_v1.py). Lower case, no punctuation (Unicode's P* and ASCII's), no
  articles of the language; Chinese is cut into characters; F1 of bags of tokens.
* `cmrc`: Cui et al., 2019 (cmrc2018_evaluate.py). Lower case, without a fixed list of punctuation marks; exact match of
  what is left, white space and other marks included; F1 of the longest common contiguous run of tokens, which are
  Chinese characters and the Treebank words of the rest.
* `characters`: no script's, for Japanese. Han, kana and bopomofo characters and runs of others, lower case, without
  punctuation (as MLQA has it); F1 of bags of these.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache, partial

from bertune.tasks.squad.treebank import treebank_words

METRICS = ("squad", "cmrc", "mlqa", "characters")
MLQA_LANGUAGES = ("en", "es", "hi", "vi", "de", "ar", "zh")

_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_HAN = re.compile("[\u4e00-\u9fa5]")
# Han, kana (also small, half-width and iteration marks), bopomofo.
_CJK = (
    "\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_CHARACTERS = re.compile(f"[{_CJK}]|[^\\s{_CJK}]+")
_MLQA_ARTICLES: dict[str, tuple[str, str]] = {
    "en": (r"\b(a|an|the)\b", " "),
    "es": (r"\b(un|una|unos|unas|el|la|los|las)\b", " "),
    "vi": (r"\b(của|là|cái|chiếc|những)\b", " "),
    "de": (r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b", " "),
    "ar": (r"\sال^|ال", " "),
}
# The script's list also names "……", two characters, which no single character equals: "…" stays.
_CMRC_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")


@dataclass(frozen=True)
class AnswerMetric:
    """A way to compare answers.

    name: as `--qa-metric` has it, with MLQA's language.
    normal: an answer's text in the form that exact match compares.
    tokens: what F1 compares.
    overlap: how many tokens two answers have in common.
    skips_empty: golds that have no tokens do not count, and two answers without tokens overlap wholly (SQuAD 2.0);
        else nothing overlaps with them.
    """

    name: str
    normal: Callable[[str], str]
    tokens: Callable[[str], list[str]]
    overlap: Callable[[list[str], list[str]], int]
    skips_empty: bool = False

    def exact_match(self, prediction: str, gold: str) -> float:
        """1.0 where both are the same in their normal form, else 0.0."""
        return float(self.normal(prediction) == self.normal(gold))

    def f1(self, prediction: str, gold: str) -> float:
        """Harmonic mean of precision and recall of tokens, 0 to 1."""
        predicted, wanted = self.tokens(prediction), self.tokens(gold)
        if not predicted or not wanted:
            return float(self.skips_empty and predicted == wanted)
        common = self.overlap(predicted, wanted)
        return 2 * common / (len(predicted) + len(wanted))

    def scores(self, prediction: str, golds: Iterable[str]) -> tuple[float, float]:
        """Exact match and F1 of one question, each the best over its gold answers.

        Without golds "" is the right answer, and whatever is nothing once normalised.
        """
        answers = [gold for gold in golds if self.tokens(gold) or not self.skips_empty]
        if not answers:
            right = float(not self.normal(prediction))
            return right, right
        exact = max(self.exact_match(prediction, gold) for gold in answers)
        return exact, max(self.f1(prediction, gold) for gold in answers)


def answer_metric(name: str, language: str = "en") -> AnswerMetric:
    """The metric of a name. language: of MLQA's rules."""
    if name == "cmrc":
        return AnswerMetric("cmrc", _without_cmrc_marks, _cmrc_tokens, _longest_run)
    if name == "characters":
        return AnswerMetric("characters", lambda text: "\n".join(_characters(text)), _characters, _in_both, True)
    if name == "mlqa":
        normal = partial(_mlqa_normal, language=language)
        return AnswerMetric(f"mlqa ({language})", normal, lambda text: normal(text).split(), _in_both)
    return SQUAD


def squad_normal(text: str) -> str:
    """Lower case, without punctuation (ASCII), articles (a, an, the) and superfluous white space."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_ASCII_PUNCTUATION)).split())


def _in_both(one: list[str], other: list[str]) -> int:
    return (Counter(one) & Counter(other)).total()


def _longest_run(one: list[str], other: list[str]) -> int:
    """Length of the longest contiguous run of tokens that both have."""
    return SequenceMatcher(None, one, other, autojunk=False).find_longest_match().size


def _mlqa_normal(text: str, language: str) -> str:
    text = "".join(char for char in text.lower() if not _is_punctuation(char))
    if language in _MLQA_ARTICLES:
        text = re.sub(*_MLQA_ARTICLES[language], text)
    return " ".join(_HAN.sub(r" \g<0> ", text).split() if language == "zh" else text.split())


@lru_cache(maxsize=1 << 14)
def _is_punctuation(char: str) -> bool:
    return char in string.punctuation or unicodedata.category(char).startswith("P")


def _characters(text: str) -> list[str]:
    return _CHARACTERS.findall("".join(char for char in text.lower() if not _is_punctuation(char)))


def _without_cmrc_marks(text: str) -> str:
    return "".join(char for char in text.lower().strip() if char not in _CMRC_MARKS)


def _cmrc_tokens(text: str) -> list[str]:
    """Chinese characters, and the words of what stands between them, without the script's punctuation marks."""
    return list(_mixed(_without_cmrc_marks(text)))


def _mixed(text: str) -> Iterable[str]:
    begin = 0
    for found in _HAN.finditer(text):
        yield from _words(text[begin : found.start()])
        yield found[0]
        begin = found.end()
    yield from _words(text[begin:])


@lru_cache(maxsize=1 << 14)
def _words(text: str) -> Sequence[str]:
    """The words of a text without Chinese characters, as `treebank_words` cuts them."""
    if not text or text.isspace():
        return ()
    if text.isdecimal():
        return (text,)
    # word_tokenize cuts a text into sentences first, which needs a model that NLTK downloads. Pieces of an answer are
    # hardly ever several sentences; the one difference is a full stop inside, which stays with its word.
    return tuple(treebank_words(text))


SQUAD = AnswerMetric("squad", squad_normal, lambda text: squad_normal(text).split(), _in_both, skips_empty=True)
