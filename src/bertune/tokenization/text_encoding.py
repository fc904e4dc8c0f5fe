"""How text becomes tokens: a tokenizer and the length that sequences are cut to."""

from typing import NamedTuple

from bertune.tokenization.tokenizer import Tokenizer


class TextEncoding(NamedTuple):
    """What a model's texts are encoded with. max_seq_length: in tokens, special tokens included."""

    tokenizer: Tokenizer
    max_seq_length: int
