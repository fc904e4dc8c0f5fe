"""TFRecord files: recorded ones byte for byte, any values round trip, every kind of damage told."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bertune.errors import InputError
from bertune.tensorflow_formats.tfrecord import encode_example, framed, is_tfrecord, read_records, write_records


@pytest.mark.parametrize(
    ("name", "count"), [("pretraining/instances.tf_record", 305), ("finetuned/eval.tf_record", 60)]
)
def test_recorded_files_round_trip_to_the_byte(name: str, count: int, shared: Path, tmp_path: Path) -> None:
    path = shared / "golden" / name
    records = list(read_records(path))
    assert len(records) == count
    assert is_tfrecord(path)
    assert write_records(tmp_path / "again", records) == count
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


values = st.one_of(
    hnp.arrays(np.int64, st.integers(1, 9)),
    hnp.arrays(np.float32, st.integers(1, 9), elements=st.floats(width=32, allow_nan=False)),
    st.lists(st.binary(max_size=9), min_size=1, max_size=4).map(lambda items: np.array([*items, None], object)[:-1]),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), max_size=3))
def test_any_values_round_trip(tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, np.ndarray]]) -> None:
    path = tmp_path_factory.mktemp("records") / "file.tf_record"
    write_records(path, records)
    again = list(read_records(path))
    assert [list(record) for record in again] == [list(record) for record in records]
    for one, other in zip(again, records, strict=True):
        for name, expected in other.items():
            assert one[name].dtype == expected.dtype
            assert one[name].tolist() == expected.tolist()


def test_lists_of_numbers_and_texts_are_written_too(tmp_path: Path) -> None:
    write_records(tmp_path / "file", [{"ids": [1, -2, 3], "weights": [0.5], "texts": ["ä", "b"], "one": [True]}])
    (record,) = read_records(tmp_path / "file")
    assert record["ids"].tolist() == [1, -2, 3]
    assert record["weights"].tolist() == [0.5]
    assert record["texts"].tolist() == ["ä".encode(), b"b"]
    assert record["one"].tolist() == [1]
    with pytest.raises(TypeError, match="'bad'"):
        encode_example({"bad": [object()]})  # type: ignore[dict-item]


GOOD = framed(encode_example({"ids": [1, 2, 3]}))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"plain text, no records", "record 0 .* is it a TFRecord file"),
        (GOOD + GOOD[:7], "record 1 .* ends within its header"),
        (GOOD + GOOD[:-6], "record 1 .* cut off"),
        (GOOD + GOOD[:20] + bytes([GOOD[20] ^ 1]) + GOOD[21:], "record 1 .* checksum of its .* bytes"),
        (GOOD + b"\xff" * 8 + GOOD[8:], "record 1 .* checksum of its length.* damaged"),
        (GOOD + framed(b"\x0a\xff\xff"), "record 1 .* not a tf.train.Example"),
        (framed(b"\x0a\x0b\x0a\x09\x0a\x01a\x12\x04\x1a\x02\x0a\x05"), "record 0 .* not a tf.train.Example"),
    ],
    ids=["text", "header", "cut", "flipped", "length", "message", "numbers"],
)
def test_damage_is_told_with_file_and_record(data: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "file.tf_record"
    path.write_bytes(data)
    with pytest.raises(InputError, match=told) as caught:
        list(read_records(path))
    assert str(path) in str(caught.value)


def test_a_length_beyond_the_file_is_not_believed(tmp_path: Path) -> None:
    import struct

    from bertune.tensorflow_formats.crc32c import crc32c, masked

    length = struct.pack("<Q", 10 << 40)
    (tmp_path / "bomb").write_bytes(length + struct.pack("<I", masked(crc32c(length))) + b"x")
    with pytest.raises(InputError, match="the file ends after 1"):
        list(read_records(tmp_path / "bomb"))
    with pytest.raises(InputError, match="cannot be read"):
        list(read_records(tmp_path / "absent"))
    with pytest.raises(InputError, match="there is no folder"):
        write_records(tmp_path / "no folder" / "file", [])
