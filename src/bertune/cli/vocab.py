"""`bertune vocab`."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertune.cli.arguments import parse
from bertune.errors import InputError, Problems
from bertune.files.atomic_write import is_special
from bertune.files.outputs import check_output
from bertune.options import option


@dataclass(frozen=True)
class VocabOptions:
    """Options of `bertune vocab`."""

    train: list[str] = option(help="text, JSON lines or tables: files or patterns")  # noqa: RUF009 (it makes a field)
    size: int = option(help="number of entries in the vocabulary, special tokens included")
    output: str = option(help="new file to write, such as vocab.txt; a pipe; or - for standard output", value="FILE")
    text_column: str = option("text", help="column of the text in tables and JSON lines")
    do_lower_case: bool = option(True, help="lower-case the text and strip accents")
    min_frequency: int = option(2, help="join two pieces only if they are neighbours this often")

    def problems(self) -> list[str]:
        """What cannot be done, each option by its flag."""
        found = []
        if self.size < 100:
            found.append(f"--size {self.size}: must be at least 100")
        if self.min_frequency < 1:
            found.append(f"--min-frequency {self.min_frequency}: must be at least 1")
        if Path(self.output).is_file() and not self.output.startswith(("/dev/", "/proc/")):
            found.append(f"--output {self.output}: exists already; name a new file")
        else:
            try:
                check_output(self.output)
            except InputError as error:
                found.append(str(error))
        return found


def main(argv: Sequence[str]) -> None:
    """Train a WordPiece vocabulary and write it as vocab.txt."""
    about = "Train a WordPiece vocabulary on text, for pre-training from scratch."
    options = VocabOptions(**parse("bertune vocab", about, [VocabOptions], argv))

    from bertune.data.documents import corpus_kind, find_files, read_texts
    from bertune.tokenization.vocabulary import SPECIAL, train_vocabulary, write_vocabulary

    problems = Problems()
    problems.extend(options.problems())
    files: list[Path] = []
    try:
        files = find_files(options.train, "--train")
        if corpus_kind(files) == "tfrecord":
            problems.add(f"--train {files[0]}: holds instances, not text")
    except InputError as error:
        problems.add(str(error))
    problems.raise_if_any()

    def texts() -> Iterator[str]:
        for path in files:
            for _, text in read_texts(path, options.text_column):
                yield text

    tokens = train_vocabulary(
        texts(), options.size, do_lower_case=options.do_lower_case, min_frequency=options.min_frequency
    )
    if len(tokens) <= len(SPECIAL):
        raise InputError(f"--train {files[0]}: holds no text, so there are no words to learn")
    write_vocabulary(Path(options.output), tokens)
    stream = sys.stderr if options.output == "-" or is_special(Path(options.output)) else sys.stdout
    short = "" if len(tokens) >= options.size else f" (the text has no more; {options.size} were asked for)"
    print(f"{options.output}: {len(tokens)} entries{short}", file=stream)
