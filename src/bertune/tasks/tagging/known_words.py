"""The baseline of the CoNLL-2003 shared task (Tjong Kim Sang & De Meulder, 2003): entities that training held."""

from collections import Counter
from collections.abc import Sequence

from bertune.tasks.protocol import Prediction
from bertune.tasks.tagging.examples import TaggedExample


def known_words(train: Sequence[TaggedExample], rows: Sequence[TaggedExample]) -> list[Prediction]:
    """Entities of the training data wherever their very words stand, the longest first, with the commonest type."""
    types: dict[tuple[str, ...], Counter[str]] = {}
    for example in train:
        for entity in example.entities:
            inside = [example.text[a:b] for a, b in example.words if entity.start <= a and b <= entity.end]
            types.setdefault(tuple(inside), Counter())[entity.label] += 1
    types.pop((), None)
    longest = max(map(len, types), default=0)
    predictions: list[Prediction] = []
    for example in rows:
        words = [example.text[a:b] for a, b in example.words]
        entities, at = [], 0
        while at < len(words):
            size = next((n for n in range(longest, 0, -1) if tuple(words[at : at + n]) in types), 0)
            if size:
                size = min(size, len(words) - at)
                (label, _), *_ = types[tuple(words[at : at + size])].most_common(1)
                entities.append({"label": label, "start": example.words[at][0], "end": example.words[at + size - 1][1]})
            at += max(1, size)
        predictions.append({"entities": entities})
    return predictions
