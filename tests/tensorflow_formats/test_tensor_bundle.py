"""TensorFlow's checkpoint format: what it wrote is read, what is written equals it byte by byte, damage is told."""

import contextlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertune.errors import InputError
from bertune.tensorflow_formats.bundle_index import Entry, part_key, write_entry
from bertune.tensorflow_formats.crc32c import crc32c, masked
from bertune.tensorflow_formats.protobuf import bytes_field, read_varint, varint, varint_field
from bertune.tensorflow_formats.sstable import TableError, read_table, write_table
from bertune.tensorflow_formats.tensor_bundle import Array, TensorBundle, write_bundle

FLOAT = 1


def some_tensors() -> dict[str, Array]:
    """One tensor of every kind and a few odd shapes."""
    rng = np.random.default_rng(0)
    kinds = ["f4", "f8", "i4", "u1", "i2", "i1", "c8", "i8", "?", "u2", "c16", "f2", "u4", "u8"]
    tensors: dict[str, Array] = {f"kind/{kind}": (rng.random((2, 3)) * 100).astype(kind) for kind in kinds}
    tensors |= {"scalar": np.array(7, "i8"), "empty": np.zeros((0, 4), "f4"), "größe": np.ones((1, 2, 3), "f4")}
    tensors["transposed"] = rng.random((5, 3)).astype("f4").T
    return tensors


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "model.ckpt", some_tensors())
    return tmp_path / "model.ckpt"


def put_together(prefix: Path, entries: dict[bytes, Entry], shards: list[bytes]) -> None:
    """A checkpoint by hand: its entries as told, its data files as given."""
    for number, data in enumerate(shards):
        Path(f"{prefix}.data-{number:05d}-of-{len(shards):05d}").write_bytes(data)
    header = varint_field(1, len(shards)) + bytes_field(3, varint_field(1, 1))
    pairs = [(b"", header)]
    for key in sorted(entries):
        slices = b"".join(
            bytes_field(7, b"".join(bytes_field(1, extent(start, length)) for start, length in part))
            for part in entries[key].slices
        )
        pairs.append((key, write_entry(entries[key]) + slices))
    Path(f"{prefix}.index").write_bytes(write_table(pairs))


def extent(start: int, length: int | None) -> bytes:
    return varint_field(1, start) + (b"" if length is None else varint(2 << 3) + varint(length))


def plain_entry(array: Array, shard: int = 0, offset: int = 0) -> Entry:
    data = array.tobytes()
    return Entry(FLOAT, array.shape, shard, offset, len(data), masked(crc32c(data)))


class TestWhatTensorFlowWrote:
    @pytest.mark.parametrize(
        "name", ["tiny/bert_model.ckpt", "finetuned/model.ckpt-15", "hub/tiny_module/variables/variables"]
    )
    def test_rewritten_it_is_the_same_file(self, shared: Path, tmp_path: Path, name: str) -> None:
        prefix = shared / "golden" / name
        bundle = TensorBundle(prefix)
        write_bundle(tmp_path / "copy", {name: bundle.read(name) for name in bundle.names()})
        for suffix in (".index", ".data-00000-of-00001"):
            assert Path(f"{tmp_path / 'copy'}{suffix}").read_bytes() == Path(f"{prefix}{suffix}").read_bytes()

    def test_names_and_shapes(self, shared: Path) -> None:
        bundle = TensorBundle(shared / "golden/tiny/bert_model.ckpt")
        expected = json.loads((shared / "golden/tiny/variables.json").read_text())
        shapes = {name: list(bundle.shape(name)) for name in bundle.names()}
        assert shapes == expected | {"global_step": []}
        assert "bert/pooler/dense/bias" in bundle
        assert "bert/pooler/dense/bia" not in bundle

    def test_text(self, shared: Path) -> None:
        bundle = TensorBundle(shared / "golden/hub/tiny_savedmodel_v2/variables/variables")
        name = "_CHECKPOINTABLE_OBJECT_GRAPH"
        assert bundle.dtype(name) == np.dtype(object)
        (graph,) = bundle.read_strings(name)
        assert graph.count(b"VARIABLE_VALUE") > 50
        with pytest.raises(InputError, match="text, not numbers"):
            bundle.read(name)
        with pytest.raises(InputError, match="holds no text"):
            bundle.read_strings(bundle.names()[-1])


class TestRoundTrip:
    def test_every_kind(self, bundle: Path) -> None:
        opened = TensorBundle(bundle)
        expected = some_tensors()
        assert opened.names() == sorted(expected, key=str.encode)
        for name, array in expected.items():
            found = opened.read(name)
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert opened.dtype(name) == array.dtype
            np.testing.assert_array_equal(found, array)
            assert found.flags.writeable

    def test_large_index_in_several_blocks(self, tmp_path: Path) -> None:
        names = [f"{'deep/' * 30}{number}" for number in range(15_000)]
        write_bundle(tmp_path / "many", {name: np.array(number, "i4") for number, name in enumerate(names)})
        opened = TensorBundle(tmp_path / "many")
        assert len(opened.names()) == len(names)
        assert [int(opened.read(name)) for name in names[::1000]] == list(range(0, len(names), 1000))

    def test_nothing_but_the_checkpoint_is_left(self, bundle: Path) -> None:
        assert sorted(path.name for path in bundle.parent.iterdir()) == [
            "model.ckpt.data-00000-of-00001",
            "model.ckpt.index",
        ]

    def test_a_failure_leaves_the_old_one(self, bundle: Path) -> None:
        with pytest.raises(InputError, match="tensor 'bad': type <U1 has no counterpart"):
            write_bundle(bundle, {"a": np.zeros(3, "f4"), "bad": np.array(["x"])})
        assert TensorBundle(bundle).names() == sorted(some_tensors(), key=str.encode)
        assert len(list(bundle.parent.iterdir())) == 2

    @pytest.mark.parametrize("name", ["", "\0x"])
    def test_names_that_cannot_be(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InputError, match="name"):
            write_bundle(tmp_path / "x", {name: np.zeros(1, "f4")})

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot be written"):
            write_bundle(tmp_path / "file" / "model", {"a": np.zeros(1, "f4")})


class TestShardsAndParts:
    def test_two_data_files(self, tmp_path: Path) -> None:
        one, two = np.arange(6, dtype="f4").reshape(2, 3), np.arange(4, dtype="f4") + 10
        entries = {b"one": plain_entry(one), b"two": plain_entry(two, shard=1, offset=5)}
        put_together(tmp_path / "model", entries, [one.tobytes(), b"?????" + two.tobytes()])
        opened = TensorBundle(tmp_path / "model")
        np.testing.assert_array_equal(opened.read("one"), one)
        np.testing.assert_array_equal(opened.read("two"), two)
        Path(tmp_path / "model.data-00001-of-00002").unlink()
        with pytest.raises(InputError, match=r"model\.data-00001-of-00002: missing"):
            TensorBundle(tmp_path / "model")

    def test_a_variable_in_parts(self, tmp_path: Path) -> None:
        whole = np.arange(600, dtype="f4").reshape(200, 3)
        parts = (((0, 70), (0, None)), ((70, 130), (0, None)))
        upper, lower = whole[:70], whole[70:]
        entries = {
            b"v": Entry(FLOAT, (200, 3), slices=parts),
            part_key(b"v", parts[0]): plain_entry(upper),
            part_key(b"v", parts[1]): plain_entry(lower, shard=1),
        }
        put_together(tmp_path / "model", entries, [upper.tobytes(), lower.tobytes()])
        opened = TensorBundle(tmp_path / "model")
        assert opened.names() == ["v"]
        np.testing.assert_array_equal(opened.read("v"), whole)

    @pytest.mark.parametrize(
        ("parts", "expected"),
        [
            ([((0, 2),)], "do not make"),
            ([((0, 3),), ((2, 3),)], "does not fit"),
            ([((0, 2),), ((0, 2),)], "do not make"),
            ([((0, 5),)], "does not fit"),
            ([((-1, 4),)], "does not fit"),
            ([((0, 2), (0, 1))], "does not fit"),
            ([((0, 3),), ((2, 1),)], "overlap"),
        ],
    )
    def test_parts_that_do_not_fit(
        self, tmp_path: Path, parts: list[tuple[tuple[int, int], ...]], expected: str
    ) -> None:
        entries = {b"v": Entry(FLOAT, (4,), slices=tuple(parts))}
        data = b""
        for part in parts:
            if len(part) == 1 and part[0][1] >= 0:
                array = np.ones(part[0][1], "f4")
                entries[part_key(b"v", part)] = plain_entry(array, offset=len(data))
                data += array.tobytes()
        put_together(tmp_path / "model", entries, [data])
        with pytest.raises(InputError, match=expected):
            TensorBundle(tmp_path / "model").read("v")

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (0, "80"),
            (-1, "7f"),
            (63, "bf"),
            (64, "c040"),
            (-64, "40"),
            (-65, "3fbf"),
            (30522, "e0773a"),
            (1 << 40, "fd0000000000"),
        ],
    )
    def test_ordered_code(self, value: int, expected: str) -> None:
        """As the comments and tables of ordered_code.cc have it: n bytes, n leading ones, 7n - 1 bits of number."""
        key = part_key(b"n\0\xff", ((value, None),))
        assert key.hex() == b"\0n\0\xff\xff\0\0\x01\x01\x01".hex() + expected + "7f"

    def test_bfloat16_is_widened(self, tmp_path: Path) -> None:
        halves = (np.array([1.5, -2.25, 0.0], "f4").view("u4") >> 16).astype("u2")
        entry = Entry(14, (3,), 0, 0, 6, masked(crc32c(halves.tobytes())))
        put_together(tmp_path / "model", {b"b": entry}, [halves.tobytes()])
        opened = TensorBundle(tmp_path / "model")
        assert opened.dtype("b") == np.float32
        assert opened.read("b").tolist() == [1.5, -2.25, 0.0]


class TestDamage:
    def test_a_flipped_bit_in_the_data(self, bundle: Path) -> None:
        path = Path(f"{bundle}.data-00000-of-00001")
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        path.write_bytes(data)
        opened = TensorBundle(bundle)
        first = opened.names()[1]
        with pytest.raises(InputError, match=rf"model\.ckpt\.index, tensor '{first}': damaged: expected checksum"):
            opened.read(first)
        opened.read(opened.names()[-1])

    def test_a_data_file_cut_short(self, bundle: Path) -> None:
        path = Path(f"{bundle}.data-00000-of-00001")
        opened = TensorBundle(bundle)
        size = path.stat().st_size
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(
            InputError, match=f"'transposed': expected in bytes {size - 60} to {size}.*has {size - 5} bytes"
        ):
            TensorBundle(bundle)
        with pytest.raises(InputError, match=r"'transposed': expected 60 bytes .* found 55"):
            opened.read("transposed")

    def test_an_unknown_name(self, bundle: Path) -> None:
        with pytest.raises(InputError, match=r"holds no tensor 'nope'; it holds empty, größe, .* and 13 more"):
            TensorBundle(bundle).read("nope")

    def test_no_index(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"x\.index: cannot be read \(No such file"):
            TensorBundle(tmp_path / "x")

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            (Entry(FLOAT, (1 << 40,), 0, 0, 1 << 42), "expected in bytes 0 to 4398046511104 .* which has 8 bytes"),
            (Entry(FLOAT, (1 << 62,), 0, 0, 8), "cannot be"),
            (Entry(FLOAT, (0, 1 << 62), 0, 0, 0), "cannot be"),
            (Entry(FLOAT, (1,) * 40, 0, 0, 4), "cannot be"),
            (Entry(FLOAT, (-2,), 0, 0, 8), "cannot be"),
            (Entry(FLOAT, (3,), 0, 0, 8), r"shape \[3\] does not fit 8 bytes"),
            (Entry(FLOAT, (2,), 0, -8, 8), "expected in bytes -8 to 0"),
            (Entry(FLOAT, (2,), 5, 0, 8), "data file 5, but there are 1"),
            (Entry(FLOAT, (2,), -1, 0, 8), "data file -1, but there are 1"),
        ],
    )
    def test_claims_that_cannot_be(self, tmp_path: Path, entry: Entry, expected: str) -> None:
        put_together(tmp_path / "model", {b"x": entry}, [bytes(8)])
        with pytest.raises(InputError, match=expected):
            TensorBundle(tmp_path / "model")

    def test_tensors_that_share_bytes(self, tmp_path: Path) -> None:
        """Else a small file could name a million large tensors."""
        put_together(
            tmp_path / "model", {b"x": plain_entry(np.zeros(2, "f4")), b"y": Entry(FLOAT, (1,), 0, 4, 4)}, [bytes(8)]
        )
        with pytest.raises(InputError, match="'y': shares bytes"):
            TensorBundle(tmp_path / "model")

    def test_an_unknown_type_is_told_when_read(self, tmp_path: Path) -> None:
        put_together(tmp_path / "model", {b"x": Entry(21, (2,), 0, 0, 8)}, [bytes(8)])
        opened = TensorBundle(tmp_path / "model")
        assert opened.shape("x") == (2,)
        with pytest.raises(InputError, match="type 21"):
            opened.read("x")

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            (varint_field(1, 1) + varint_field(2, 1), "big-endian"),
            (varint_field(1, 1) + bytes_field(3, varint_field(2, 9)), "version 9"),
            (b"", "0 data files"),
            (varint_field(1, 1 << 40), "data files"),
        ],
    )
    def test_headers(self, tmp_path: Path, header: bytes, expected: str) -> None:
        (tmp_path / "m.index").write_bytes(write_table([(b"", header)]))
        with pytest.raises(InputError, match=rf"m\.index: not a sound TensorFlow checkpoint index: .*{expected}"):
            TensorBundle(tmp_path / "m")


def reading(prefix: Path) -> dict[str, bytes]:
    opened = TensorBundle(prefix)
    return {name: opened.read(name).tobytes() for name in opened.names()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("fuzz") / "m"
    write_bundle(prefix, {f"a/{name}": np.arange(3, dtype="f4") for name in ("b", "c", "cd")})
    return prefix


class TestFuzz:
    """A damaged index gives the same tensors or an InputError; never anything else."""

    @settings(deadline=1000)
    @given(st.data())
    def test_flipped_and_cut_bytes(self, small: Path, data: st.DataObject) -> None:
        index = bytearray(Path(f"{small}.index").read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            index[data.draw(st.integers(0, len(index) - 1))] = data.draw(st.integers(0, 255))
        expected = reading(small)
        cut = data.draw(st.integers(0, len(index)) | st.just(len(index)))
        with contextlib.suppress(InputError), replaced(Path(f"{small}.index"), bytes(index[:cut])):
            assert reading(small) == expected

    @settings(deadline=1000)
    @given(st.data())
    def test_damage_behind_sound_checksums(self, small: Path, data: st.DataObject) -> None:
        """Blocks are changed and their checksums made to fit, so that the parsers behind see them."""
        index = bytearray(Path(f"{small}.index").read_bytes())
        for offset, size in blocks(bytes(index)):
            for _ in range(data.draw(st.integers(0, 2))):
                index[offset + data.draw(st.integers(0, size - 1))] = data.draw(st.integers(0, 255))
            index[offset + size + 1 : offset + size + 5] = struct.pack(
                "<I", masked(crc32c(bytes(index[offset : offset + size + 1])))
            )
        with contextlib.suppress(InputError), replaced(Path(f"{small}.index"), bytes(index)):
            reading(small)  # a changed name or offset cannot be told from a real one


@contextlib.contextmanager
def replaced(path: Path, data: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def blocks(index: bytes) -> list[tuple[int, int]]:
    """Offsets and sizes of the one data block and the index block."""
    footer = memoryview(index)[-48:]
    position = 0
    numbers = []
    for _ in range(4):
        number, position = read_varint(footer, position)
        numbers.append(number)
    return [(0, numbers[0] - 5), (numbers[2], numbers[3])]


class TestTable:
    @given(st.dictionaries(st.binary(max_size=12), st.binary(max_size=30), max_size=60))
    def test_what_is_written_comes_back(self, pairs: dict[bytes, bytes]) -> None:
        ordered = sorted(pairs.items())
        assert [(key, bytes(value)) for key, value in read_table(memoryview(write_table(ordered)))] == ordered

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda data: data[:40], "too short"),
            (lambda data: data[:-1], "does not end like an index"),
            (lambda data: b"\0" + data, "checksum|lengths"),
            (lambda data: data.replace(b"value", b"valve"), "has checksum"),
        ],
    )
    def test_damage(self, change: Callable[[bytes], bytes], expected: str) -> None:
        with pytest.raises(TableError, match=expected):
            read_table(memoryview(change(write_table([(b"key", b"value")]))))

    def test_compression_is_refused(self) -> None:
        data = bytearray(write_table([(b"key", b"value")]))
        end = data.index(b"value") + 5 + 8
        data[end] = 1
        data[end + 1 : end + 5] = struct.pack("<I", masked(crc32c(bytes(data[: end + 1]))))
        with pytest.raises(TableError, match="snappy"):
            read_table(memoryview(bytes(data)))

    def test_keys_must_ascend(self) -> None:
        with pytest.raises(TableError, match="must ascend"):
            read_table(memoryview(write_table([(b"b", b""), (b"a", b"")])))
