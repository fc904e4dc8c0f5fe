"""A corpus cut into shards: by its text alone, whoever tokenizes them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from bertune.data.documents import Document, Lines, read_documents

SHORT_SHOWN = 5
"""Documents of one sentence whose places a shard keeps."""

Cut = tuple[Sequence[Document], Mapping[str, Any]]
"""The documents of a shard, and its description."""


@dataclass(frozen=True)
class Cuts:
    """The shards that are still to be written, by number. Read and cut in one process, so that the cuts are the same.

    files: plain text or tables.
    lines, text_column: as in `token_corpus.CorpusForm`.
    limit: characters of a shard.
    whole: descriptions of the first shards, which are written.
    """

    files: Sequence[Path]
    lines: Lines
    text_column: str
    limit: int
    whole: Sequence[Mapping[str, Any]]

    def __iter__(self) -> Iterator[tuple[int, Cut]]:
        number = len(self.whole)
        for index, path in enumerate(self.files):
            done = sum(shard["documents"] for shard in self.whole if shard["file"] == index)
            documents = islice(read_documents(path, self.lines, self.text_column), done, None)
            while chunk := list(up_to(documents, self.limit)):
                short = [document for document in chunk if len(document.sentences) == 1]
                places = [f"{path}, line {document.line}" for document in short[:SHORT_SHOWN]]
                described = {"file": index, "documents": len(chunk), "short": len(short), "places": places}
                yield number, (chunk, described)
                number += 1


def up_to(documents: Iterator[Document], limit: int) -> Iterator[Document]:
    """Documents until their characters pass the limit."""
    size = 0
    for document in documents:
        yield document
        size += size_of([document])
        if size >= limit:
            return


def size_of(documents: Iterable[Document]) -> int:
    """Characters of some documents, line ends counted."""
    return sum(sum(map(len, document.sentences)) + len(document.sentences) for document in documents)
