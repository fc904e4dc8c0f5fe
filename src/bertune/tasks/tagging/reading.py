"""Files of tagged texts, by what they hold: CoNLL columns, rows of tokens and tags, annotations by characters."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bertune.data.columns import listed
from bertune.data.rows import RowFile, open_rows
from bertune.errors import InputError, Problems
from bertune.files.json_files import parse_json
from bertune.tasks.options import ReadingOptions
from bertune.tasks.tagging.annotations import KEYS, from_record
from bertune.tasks.tagging.conll import Sentence, read_conll
from bertune.tasks.tagging.examples import TaggedExample, from_tokens
from bertune.tasks.tagging.schemes import guess_scheme, has_prefix, violations

_BETWEEN = re.compile(r"[\s,]*")
ROWS = (".jsonl", ".ndjson", ".parquet", ".csv")


def read_tagged(path: Path, options: ReadingOptions, *, labelled: bool) -> Iterator[TaggedExample]:
    """Examples of a file, in order; what is wrong is told all at once.

    .jsonl, .ndjson and .parquet (and .csv without labels) hold rows with tokens and tags, or texts and entities;
    .json holds a list of annotations; any other name is a CoNLL file's.

    Raises:
        InputError: unreadable files, tags that do not match tokens or break their scheme, bad entities.
    """
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix == ".json":
        yield from _annotated(_json_records(path), path, options, labelled=labelled)
        return
    if suffix not in ROWS:
        sentences = read_conll(path, token_at=options.token_at, tag_at=options.tag_at, labelled=labelled)
        yield from _of_sentences(sentences, path, options.scheme, labelled=labelled)
        return
    file = open_rows(path)
    if options.tokens_column in file.columns:
        yield from _of_sentences(_sentences(file, options, labelled=labelled), path, options.scheme, labelled=labelled)
        return
    entities = (options.entities_column,) if options.entities_column else (*KEYS, "annotations")
    if not {options.text_column, "data"} & set(file.columns) or (labelled and not set(entities) & set(file.columns)):
        raise InputError(
            f"{path}: holds neither tokens (--tokens-column {options.tokens_column}) nor a text with entities "
            f"(--text-column {options.text_column}, --entities-column); it has: {listed(file.columns)}"
        )
    records = ((f"line {row.line}", row.line, row.values) for row in file)
    yield from _annotated(records, path, options, labelled=labelled)


def _json_records(path: Path) -> Iterator[tuple[str, int, object]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        records = parse_json(text)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not isinstance(records, list):
        raise InputError(f"{path}: expected a list of annotated texts, found {type(records).__name__}")
    for i, (record, line) in enumerate(zip(records, _lines_of_items(text), strict=True), 1):
        yield f"line {line} (record {i})", line, record


def _lines_of_items(text: str) -> Iterator[int]:
    """The line where every item of a JSON list begins."""
    decoder, line, counted = json.JSONDecoder(), 1, 0
    begin = _BETWEEN.match(text, text.index("[") + 1).end()  # type: ignore[union-attr]
    while text[begin] != "]":
        line, counted = line + text.count("\n", counted, begin), begin
        yield line
        _, end = decoder.raw_decode(text, begin)
        begin = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]


def _annotated(
    records: Iterator[tuple[str, int, object]], path: Path, options: ReadingOptions, *, labelled: bool
) -> Iterator[TaggedExample]:
    problems = Problems()
    for where, place, record in records:
        try:
            example = from_record(record, options.text_column, options.entities_column, labelled=labelled, place=place)
        except InputError as error:
            problems.add(f"{path}, {where}: {error}")
            continue
        if not problems:
            yield example
    problems.raise_if_any()


def _sentences(file: RowFile, options: ReadingOptions, *, labelled: bool) -> Iterator[Sentence]:
    names = [options.tags_column] if options.tags_column else ["tags", "ner_tags", "labels"]
    tags_column = next((name for name in names if name in file.columns), None)
    if labelled and tags_column is None:
        raise InputError(
            f"{file.path}: no column of tags ({listed(str(name) for name in names)}; --tags-column); "
            f"it has: {listed(file.columns)}"
        )
    problems = Problems()
    for row in file:
        tokens = _texts(row.values[options.tokens_column])
        tags = _texts(row.values[tags_column]) if labelled and tags_column else ()
        if tokens is None or not all(tokens):
            problems.add(f"{file.where(row, options.tokens_column)}: expected a list of texts, none of them empty")
        elif tags is None:
            problems.add(f'{file.where(row, tags_column)}: expected a list of tags such as "B-PER", by name')
        elif labelled and len(tags) != len(tokens):
            problems.add(f"{file.where(row)}: {len(tokens)} tokens but {len(tags)} tags; every token needs one tag")
        elif not problems:
            yield Sentence(tokens, tags, row.line)
    problems.raise_if_any()


def _texts(value: object) -> tuple[str, ...] | None:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    return None


def _of_sentences(sentences: Iterator[Sentence], path: Path, scheme: str, *, labelled: bool) -> Iterator[TaggedExample]:
    if not labelled:
        yield from (from_tokens(one.tokens, None, one.line) for one in sentences)
        return
    held = list(sentences)
    _check(held, path, scheme)
    yield from (from_tokens(one.tokens, one.tags, one.line) for one in held)


def _check(sentences: Sequence[Sentence], path: Path, scheme: str) -> None:
    """Refuse tags that break their scheme.

    Raises:
        InputError: naming every line, the token and the tag.
    """
    used: Mapping[str, None] = dict.fromkeys(tag for one in sentences for tag in one.tags if tag != "O")
    prefixed = [tag for tag in used if has_prefix(tag)]
    problems = Problems()
    in_conll = Path(path.name.lower().removesuffix(".gz")).suffix not in ROWS
    if scheme == "auto":
        scheme = guess_scheme(one.tags for one in sentences)
    mixed = len(prefixed) not in (0, len(used))
    for one in sentences:
        wrong = violations(one.tags, scheme)
        if mixed:
            wrong += [
                (i, f"{tag!r} has no letter before it, as {prefixed[0]!r} has")
                for i, tag in enumerate(one.tags)
                if not has_prefix(tag)
            ]
        for i, message in wrong:
            place = f"line {one.line + i}" if in_conll else f"line {one.line}, token {i}"
            problems.add(f"{path}, {place}: {one.tokens[i]!r}: {message}")
    if problems:
        problems.add(f"{path}: its tags are read as {scheme.upper()} (--scheme)")
    problems.raise_if_any()
