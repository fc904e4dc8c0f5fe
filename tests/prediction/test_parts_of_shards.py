"""A shard that starts leaves alone what the others have finished."""

from pathlib import Path

from bertune.prediction.formats import Format
from bertune.prediction.parts import Parts


def test_a_late_shard_leaves_the_others_parts(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts", Format())
    parts.start({"rows_per_part": 1}, resume=False, is_ours=lambda part: part % 2 == 0)
    for number in (0, 1):
        with parts.writing(number) as part:
            part.write({"label": "good"})
    assert parts.finished(0)
    assert parts.finished(1)
    parts.start({"rows_per_part": 1}, resume=False, is_ours=lambda part: part % 2 == 1)
    assert parts.finished(0)
    assert not parts.finished(1)
