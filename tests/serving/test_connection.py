"""A request hears that its client has gone, whatever comes first."""

from bertune.serving.connection import Connection


def test_who_watches_is_told_once_it_is_lost() -> None:
    told: list[str] = []
    connection = Connection(lambda: told.append("reads"))
    connection.watch(lambda: told.append("gone"))
    assert told == ["reads"]
    connection.lose()
    assert told == ["reads", "gone"]


def test_who_watches_too_late_is_told_at_once() -> None:
    told: list[str] = []
    connection = Connection(lambda: told.append("reads"))
    connection.lose()
    connection.watch(lambda: told.append("gone"))
    assert told == ["gone"]


def test_who_has_left_is_told_nothing() -> None:
    told: list[str] = []
    connection = Connection(lambda: None)
    connection.watch(lambda: told.append("gone"))
    connection.leave()
    connection.lose()
    assert not told
