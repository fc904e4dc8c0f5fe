"""Which column holds the text, the pair and the label, by customary names; canonical names of labels."""

import difflib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from numbers import Integral, Real

from bertune.errors import InputError


def _names(spaced: str) -> list[str]:
    return spaced.split()


# All names below are in the form that `_plain` gives: no case, spaces, hyphens or underscores.
_TEXT_NAMES = _names(
    "text sentence review content comment texta sent document doc utterance message tweet body passage "
    "reviewtext reviewbody commenttext sentencetext textcontent input inputtext "
    "nachricht kommentar inhalt satz rezension texte phrase commentaire avis texto frase comentario mensaje testo "
    "文本 内容 句子 评论 正文 评价 文本内容 评论内容 文字 語句 內容 評論 評價"
)
_PAIRS = [
    pair.split("/")
    for pair in _names(
        "sentence1/sentence2 sentencea/sentenceb sent1/sent2 texta/textb text1/text2 text/textpair "
        "premise/hypothesis question/sentence question1/question2 q1/q2 question/answer question/passage "
        "question/context anchor/positive query/positive query/passage query/document query/title "
        "claim/evidence s1/s2 #1string/#2string "
        "文本1/文本2 文本a/文本b 句子1/句子2 句子a/句子b 前提/假设 前提/假設 问题1/问题2 问题/答案 问题/句子 "
        "問題1/問題2 問題/答案"
    )
]
# A column called "label" is the label even beside a "score" or "category"; among the others none goes first.
_LABEL_NAMES = (
    _names("label labels goldlabel 标签 標籤"),
    _names(
        "target targets class category categories sentiment polarity intent emotion topic score rating stars "
        "similarity similarityscore relatednessscore isduplicate quality "
        "kategorie klasse etikett thema stimmung bewertung absicht catégorie categorie classe étiquette etiquette "
        "thème theme sujet categoría categoria clase etiqueta tema classificazione "
        "类别 分类 类型 情感 情感倾向 意图 主题 得分 分数 评分 相似度 類別 分類 類型 意圖 主題 得分 分數 評分"
    ),
)
_CUSTOMARY = frozenset(
    [*_TEXT_NAMES, *(name for pair in _PAIRS for name in pair), *(name for names in _LABEL_NAMES for name in names)]
) | frozenset("id idx index tokens tags nertags spans entities choices options answers".split())
_SEPARATORS = re.compile(r"[\s_\-]+")
_LISTED = 30


def listed(columns: Iterable[str]) -> str:
    """Column names for a message, quoted, at most 30 of them."""
    names = [repr(name) for name in columns]
    more = f", … and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def named(names: Iterable[str]) -> str:
    """Names for a message, as they are, at most 30 of them: a task may have thousands of labels."""
    every = list(names)
    more = f", … and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more


def repeated(columns: Iterable[str]) -> list[str]:
    """Names that occur more than once."""
    return [name for name, count in Counter(columns).items() if count > 1]


def unknown_column(name: str, columns: Sequence[str]) -> str:
    """What to tell about a column that is asked for and not there."""
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"there is no column {name!r}; the columns are {listed(columns)}{hint}"


def guess_text_columns(columns: Sequence[str]) -> tuple[str, str | None]:
    """The text column and, for pairs, the column of the second text, by customary names.

    Case, surrounding and inner spaces, hyphens and underscores do not matter. Two columns that make a customary
    pair (sentence1 and sentence2, premise and hypothesis) are a pair; else one column with a customary name
    (text, sentence, review) is the text; else the only column is the text, whatever its name.

    Args:
        columns: Names of all columns.

    Returns:
        Names as they stand in `columns`; the second is None for single texts.

    Raises:
        InputError: when no column or more than one choice has a customary name.
    """
    named = _by_plain_name(columns)
    pairs = [(one, two) for a, b in _PAIRS for one in named.get(a, []) for two in named.get(b, [])]
    in_pairs = {column for pair in pairs for column in pair}
    texts = [column for plain in named if plain in _TEXT_NAMES for column in named[plain] if column not in in_pairs]
    choices = [*pairs, *((text, None) for text in texts)]
    if len(choices) == 1:
        return choices[0]
    remedy = "name it with --text-column (and the second text of pairs with --pair-column)"
    if choices:
        text = "; ".join(listed(name for name in choice if name is not None) for choice in choices)
        raise InputError(
            f"cannot tell which column holds the text, there are several choices: {text}. "
            f"The columns are {listed(columns)}; {remedy}"
        )
    if len(columns) == 1 and not any(_plain(columns[0]) in names for names in _LABEL_NAMES):
        if not re.search(r"[;,|\t]", columns[0]):
            return columns[0], None
        remedy = f"is it separated as its suffix says (.csv by commas, .tsv by tabs)? If it is, {remedy}"
    raise InputError(
        "cannot tell which column holds the text: no column has a customary name (text, sentence, review, "
        "sentence1 and sentence2, premise and hypothesis, …). "
        f"The columns are {listed(columns) or 'none'}; {remedy}"
    )


def guess_label_column(columns: Sequence[str]) -> str | None:
    """The label column by customary names, as `guess_text_columns` compares them.

    "label", "labels" and "gold_label" go before all others (target, category, score, …).

    Returns:
        The name as it stands in `columns`, or None when there is none (as in a file to predict).

    Raises:
        InputError: when several columns could be it.
    """
    named = _by_plain_name(columns)
    for names in _LABEL_NAMES:
        found = [column for plain in named if plain in names for column in named[plain]]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"cannot tell which column holds the label, there are several choices: {listed(found)}. "
                f"The columns are {listed(columns)}; name it with --label-column"
            )
    return None


def label_text(value: object) -> str | None:
    """Canonical name of a label, so that the same label reads the same in every file format.

    Text is stripped of surrounding white space and otherwise kept as typed: "TRUE", "False", "3.0" and "nan" in a
    CSV file stay so. Booleans of JSON and Parquet are "true" and "false". Whole numbers have no fraction:
    3 and 3.0 are "3"; other numbers are in Python's shortest form (0.5, 1e+16).

    Returns:
        The name; None when the label is missing: null, NaN, or text that is empty or all white space.

    Raises:
        InputError: when the value is no label (a list, an object, bytes, a date).
    """
    if value is None:
        return None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, (Real, Decimal)):
        number = float(value)
        if math.isnan(number):
            return None
        # Beyond 2^53 a float does not say which whole number was meant.
        return str(int(number)) if number.is_integer() and abs(number) <= 2**53 else repr(number)
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:60] + "…"
    raise InputError(f"a label is text, a number or true/false, not {type(value).__name__} {shown}")


def is_customary(name: str) -> bool:
    """Whether a name is among those that columns of texts, pairs and labels customarily have."""
    return _plain(name) in _CUSTOMARY


def is_customary_text(name: str) -> bool:
    """Whether a name is among those that columns of texts and of pairs customarily have."""
    return _plain(name) in _TEXT_NAMES or any(_plain(name) in pair for pair in _PAIRS)


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", unicodedata.normalize("NFKC", name).casefold())


def _by_plain_name(columns: Sequence[str]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for column in columns:
        named.setdefault(_plain(column), []).append(column)
    return named
