"""Features on disk: the same after a round trip, made anew when damaged, bounded in size."""

import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest

from bertune.data.feature_store import FeatureStore
from bertune.features import Column, Features, Ragged
from bertune.network import pack


def features(count: int = 5, *, together: bool = False) -> Features:
    """Sequences of several lengths with every kind of column."""
    ids = Ragged.from_lists([range(3, 5 + i) for i in range(count)])
    tags = Ragged(-ids.values, ids.offsets)
    targets: dict[str, Column] = {
        "label": np.arange(count, dtype=np.int32),
        "score": np.linspace(0, 1, count),
        "tag": tags,
    }
    return Features(
        ids,
        Ragged(np.zeros_like(ids.values), ids.offsets),
        np.arange(count, dtype=np.int32),
        targets,
        np.arange(count) % 2 == 0,
        {"word": tags, "values": np.arange(count)},
        together,
    )


def same(one: Features, other: Features) -> None:
    """Both hold the same numbers of the same types."""
    columns = [
        {"ids": f.input_ids, "segments": f.segment_ids, "index": f.example_index, "cut": f.cut, **f.targets, **f.extras}
        for f in (one, other)
    ]
    assert columns[0].keys() == columns[1].keys()
    for name, a in columns[0].items():
        b = columns[1][name]
        if isinstance(a, Ragged):
            assert isinstance(b, Ragged)
            np.testing.assert_array_equal(a.offsets, b.offsets)
            a, b = a.values, b.values
        assert isinstance(b, np.ndarray)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert one.together == other.together


@pytest.mark.parametrize("made", [features(), features(together=True), features(0)])
def test_a_round_trip(tmp_path: Path, made: Features) -> None:
    store = FeatureStore(tmp_path / "features")
    assert store.find("key") is None
    store.put("key", made)
    found = store.find("key")
    assert found is not None
    same(made, found)
    assert [path.name for path in store.folder.iterdir()] == ["key"]


def test_found_features_are_packed_as_made_ones(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.put("key", features())
    found = store.find("key")
    assert found is not None
    one, other = pack(features(), np.array([3, 0])), pack(found, np.array([3, 0]))
    assert one.input_ids.equal(other.input_ids)
    assert one.targets["score"].equal(other.targets["score"])


@pytest.mark.parametrize("harm", ["flip", "shorten", "empty", "remove", "record"])
def test_damage_is_seen_and_mended(tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    store = FeatureStore(tmp_path)
    store.put("key", features())
    file = tmp_path / "key" / ("features.json" if harm == "record" else "input_ids~values.npy")
    content = file.read_bytes()
    if harm == "remove":
        file.unlink()
    else:
        cut = {"flip": content[:-1] + bytes([content[-1] ^ 1]), "shorten": content[:-4], "empty": b"", "record": b"{}"}
        file.write_bytes(cut[harm])
    with caplog.at_level(logging.WARNING, "bertune"):
        assert store.find("key") is None
    assert "damaged" in caplog.text
    assert not (tmp_path / "key").exists()
    store.put("key", features())
    assert store.find("key") is not None


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    FeatureStore(tmp_path).put("measure", features())
    size = sum(file.stat().st_size for file in (tmp_path / "measure").iterdir())
    store = FeatureStore(tmp_path, limit=3 * size + size // 2)
    for age, key in enumerate(("measure", "b", "c")):
        store.put(key, features())
        os.utime(tmp_path / key, (1000 + age, 1000 + age))
    assert store.find("measure") is not None  # used just now
    store.put("d", features())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "d", "measure"]


def test_features_beyond_the_limit_are_not_kept(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, limit=10)
    store.put("key", features())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    store = FeatureStore(tmp_path / "file")
    with caplog.at_level(logging.WARNING, "bertune"):
        store.put("key", features())
        assert store.find("key") is None
    assert "not kept" in caplog.text


def test_what_a_killed_process_left_goes_after_a_day(tmp_path: Path) -> None:
    now = time.time()
    for name, age in ((".writing-old", 25 * 3600), (".writing-new", 23 * 3600)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (now - age, now - age))
    FeatureStore(tmp_path).put("key", features())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".writing-new", "key"]


def test_another_users_entry_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = FeatureStore(tmp_path)
    store.put("key", features())

    def denied(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "bertune"):
        patch.setattr(Path, "read_text", denied)
        assert store.find("key") is None
    assert caplog.text == ""
    assert store.find("key") is not None


def test_a_folder_in_which_times_cannot_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path)
    store.put("key", features())

    def denied(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", denied)
    found = store.find("key")
    assert found is not None
    same(found, features())
