"""The text of a vocab.txt: one token a line."""


def vocabulary_lines(text: str) -> tuple[str, ...]:
    """The lines of a vocab.txt without their ends; blank ones at the end of the file, which stand for nothing, go."""
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(lines)
