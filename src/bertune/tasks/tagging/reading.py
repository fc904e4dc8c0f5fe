"""Files of tagged texts, by what they hold: CoNLL columns, rows of tokens and tags, annotations by characters."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bertune.data.columns import listed
from bertune.data.formats.format import Sample
from bertune.data.formats.registry import form_of_row, open_any, recognised
from bertune.data.json_rows import items
from bertune.data.tables import Rows
from bertune.errors import InputError, Problems
from bertune.files.text_files import plain_suffix
from bertune.tasks.column_contents import is_blank
from bertune.tasks.options import READ_AS, ReadingOptions
from bertune.tasks.reading import LeftOut, log_columns
from bertune.tasks.tagging.annotations import KEYS, from_record, lacks_text_or_entities
from bertune.tasks.tagging.conll import Sentence, read_conll
from bertune.tasks.tagging.examples import TaggedExample, from_tokens
from bertune.tasks.tagging.offsets import in_characters, warn_of_inexact
from bertune.tasks.tagging.schemes import guess_scheme, has_prefix, violations
from bertune.tasks.tagging.spelling import described, normal_spelling

logger = logging.getLogger(__name__)

ROWS = (".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".feather", ".csv", ".xlsx", ".xlsm")


def read_tagged(path: Path, options: ReadingOptions, *, labelled: bool) -> Iterator[TaggedExample]:
    """Examples of a file, in order; all problems are reported at once.

    Files in the forms of `data.formats` are recognised by their content. Else .jsonl, .ndjson, .json, .parquet and .csv
    hold rows with tokens and tags, or texts and entities; any other name is a CoNLL file's.

    Raises:
        InputError: unreadable files, tags that do not match tokens or break their scheme, bad entities.
    """
    sample = Sample(path, options)
    suffix = sample.suffix
    if (
        path.is_file()
        and suffix == ".json"
        and sample.head.lstrip("\ufeff \r\n\t").startswith("[")
        and (form_of_row(sample.first, "tags") is None)
    ):
        yield from _annotated(_json_records(sample), path, options, labelled=labelled)
        return
    if not path.is_dir() and suffix not in ROWS and (not path.exists() or recognised(sample, "tags") is None):
        sentences = read_conll(sample, token_at=options.token_at, tag_at=options.tag_at, labelled=labelled)
        yield from _of_sentences(sentences, path, options.scheme, labelled=labelled)
        return
    file = open_any(path, options, "tags", labelled=labelled)
    if options.tokens_column in file.columns:
        yield from _of_sentences(_sentences(file, options, labelled=labelled), path, options.scheme, labelled=labelled)
        return
    entities = (options.entities_column,) if options.entities_column else (*KEYS, "annotations", "completions")
    if not {options.text_column, "data"} & set(file.columns) or (labelled and not set(entities) & set(file.columns)):
        raise InputError(
            f"{path}: holds neither tokens (--tokens-column {options.tokens_column}) nor a text with entities "
            f"(--text-column {options.text_column}, --entities-column); it has: {listed(file.columns)}"
        )
    if labelled:
        taken = next((name for name in entities if name in file.columns), None)
        log_columns(file, {"text": options.text_column, "entities": taken})
    records = ((f"line {row.line}", row.line, row.values) for row in file)
    yield from _annotated(records, path, options, labelled=labelled)


def _json_records(sample: Sample) -> Iterator[tuple[str, int, object]]:
    for i, (line, record) in enumerate(items(sample.path, sample.gzipped, sample.encoding), 1):
        yield f"line {line} (record {i})", line, record


def _annotated(
    records: Iterator[tuple[str, int, object]], path: Path, options: ReadingOptions, *, labelled: bool
) -> Iterator[TaggedExample]:
    problems, found, left_out = Problems(), list[TaggedExample](), LeftOut("without a text or entities")
    for where, place, record in records:
        if labelled and options.drop_unlabelled and lacks_text_or_entities(
            record, options.text_column, options.entities_column
        ):  # fmt: skip
            left_out.add(place)
            continue
        try:
            example = from_record(record, options.text_column, options.entities_column, labelled=labelled, place=place)
        except InputError as error:
            problems.add(f"{path}, {where}: {error}")
            continue
        if labelled:
            found.append(example)
        elif not problems:
            yield example
    problems.raise_if_any()
    left_out.log(path)
    found = in_characters(found, path)
    warn_of_inexact(found, path)
    yield from found


def _sentences(file: Rows, options: ReadingOptions, *, labelled: bool) -> Iterator[Sentence]:
    names = [options.tags_column] if options.tags_column else ["tags", "ner_tags", "labels"]
    tags_column = next((name for name in names if name in file.columns), None)
    if labelled and tags_column is None:
        raise InputError(
            f"{file.path}: no column of tags ({listed(str(name) for name in names)}; --tags-column); "
            f"it has: {listed(file.columns)}"
        )
    if labelled:
        log_columns(file, {"tokens": options.tokens_column, "tags": tags_column})
    problems, left_out = Problems(), LeftOut("without tokens or tags")
    for row in file:
        if labelled and options.drop_unlabelled and any(
            is_blank(row.values[name]) for name in (options.tokens_column, str(tags_column))
        ):  # fmt: skip
            left_out.add(row.line)
            continue
        tokens = _texts(row.values[options.tokens_column])
        tags = _tags(row.values[tags_column], options.tag_names) if labelled and tags_column else ()
        if tokens is None or not all(tokens):
            problems.add(f"{file.where(row, options.tokens_column)}: expected a list of texts, none of them empty")
        elif tags is None:
            problems.add(f"{file.where(row, tags_column)}: {_expected_tags(row.values[tags_column or ''])}")
        elif labelled and len(tags) != len(tokens):
            problems.add(f"{file.where(row)}: {len(tokens)} tokens but {len(tags)} tags; every token needs one tag")
        elif not problems:
            yield Sentence(tokens, tags, row.line)
    problems.raise_if_any()
    left_out.log(file)


def _texts(value: object) -> tuple[str, ...] | None:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    return None


def _tags(value: object, names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Tags by name, or by number where there are names for them."""
    if isinstance(value, list) and names and all(type(tag) is int and 0 <= tag < len(names) for tag in value):
        return tuple(names[tag] for tag in value)
    return _texts(value)


def _expected_tags(value: object) -> str:
    expected = 'expected a list of tags such as "B-PER"'
    if isinstance(value, list) and all(type(tag) is int for tag in value):
        return (
            f"{expected}; these are numbers, and the file holds no names for them; give these in order: --tag-names O "
            "B-PER I-PER (Parquet files written by datasets keep them)"
        )
    return f"{expected}, by name"


def _of_sentences(sentences: Iterator[Sentence], path: Path, scheme: str, *, labelled: bool) -> Iterator[TaggedExample]:
    if not labelled:
        yield from (from_tokens(one.tokens, None, one.line) for one in sentences)
        return
    held = list(sentences)
    try:
        spelling = normal_spelling((tag for one in held for tag in one.tags), scheme)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if spelling:
        logger.info("%s: tags are read in the usual spelling: %s", path, described(spelling))
        held = [replace(one, tags=tuple(spelling[tag] for tag in one.tags)) for one in held]
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
    in_conll = plain_suffix(path) not in ROWS
    if scheme == "auto":
        scheme = guess_scheme(one.tags for one in sentences)
    mixed = len(prefixed) not in (0, len(used))
    for one in sentences:
        wrong = violations(one.tags, scheme)
        if mixed:
            bare = [i for i, tag in enumerate(one.tags) if not has_prefix(tag)]
            wrong = [(i, message) for i, message in wrong if i not in bare]
            wrong += [(i, f"{one.tags[i]!r} is not a letter and type, as {prefixed[0]!r} is") for i in bare]
        for i, message in wrong:
            place = f"line {one.line + i}" if in_conll else f"line {one.line}, token {i}"
            problems.add(f"{path}, {place}: {one.tokens[i]!r}: {message}")
    if problems:
        fits = [other for other in READ_AS[1:] if not any(violations(one.tags, other) for one in sentences)]
        advice = f"; --scheme {fits[0]} takes all of them as they are" if fits and not mixed else ""
        problems.add(f"{path}: its tags are read as {scheme.upper()} (--scheme){advice}")
    problems.raise_if_any()
