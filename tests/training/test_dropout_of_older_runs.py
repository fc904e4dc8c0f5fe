"""Dropout goes by the example in new runs; those that older versions began go on with the masks that they had."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bertune.errors import Interrupted
from bertune.files.yaml_files import read_yaml
from bertune.pretraining import pretrain
from bertune.training import fine_tune, train
from bertune.training.loop import loop
from bertune.training.run_folder.folder import RunFolder
from bertune.training.run_folder.output import drops_by_example
from tests.runs import differences, prepare, start
from tests.tiny import same_weights
from tests.training.test_resume import _at_call, _interrupt


@contextmanager
def older_version() -> Iterator[None]:
    """Runs that begin inside do so as an older version's: with its masks, and nothing about them in the record."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (fine_tune, train, pretrain):
            patch.setattr(module, "drops_by_example", lambda *_, **__: False)
        yield


def stopped(output: Path, options: dict[str, Any], *, at: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _at_call(loop, "update", at, _interrupt)(patch)
        with pytest.raises(Interrupted):
            start(output, options)


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "pretraining"])
def test_an_older_run_goes_on_with_its_masks(tmp_path: Path, task: str) -> None:
    options, resumed = prepare(tmp_path, task), tmp_path / "stopped"
    start(tmp_path / "new", options)
    with older_version():
        start(tmp_path / "whole", options)
        stopped(resumed, options, at=4)
    assert "dropout" not in read_yaml(resumed / "run.yaml")["record"]
    stopped(resumed, options | {"resume": True}, at=1)  # which writes run.yaml anew
    start(resumed, options | {"resume": True})
    assert differences(tmp_path / "whole", resumed) == []
    assert not drops_by_example(resumed, resume=True)
    assert drops_by_example(tmp_path / "new", resume=True)
    assert not same_weights(tmp_path / "new", resumed)


@pytest.mark.parametrize(
    ("more", "parts"),
    [({"seeds": "1,2"}, "seed-*"), ({"soup": 2}, ""), ({"folds": 2, "validation": None}, "")],
    ids=["seeds", "soup", "folds"],
)
def test_runs_that_an_older_one_was_still_to_begin_have_its_masks(
    tmp_path: Path, more: dict[str, Any], parts: str
) -> None:
    options = {name: value for name, value in (prepare(tmp_path, "text-classification") | more).items() if value}
    with older_version():
        start(tmp_path / "whole", options)
        stopped(tmp_path / "stopped", options, at=4)  # in the first of them
    start(tmp_path / "stopped", options | {"resume": True})
    assert same_weights(tmp_path / "whole", tmp_path / "stopped")
    for own in (tmp_path / "whole").glob(parts) if parts else ():
        assert same_weights(own, tmp_path / "stopped" / own.name)


def test_a_run_that_stopped_before_its_first_checkpoint_begins_again_as_it_began(tmp_path: Path) -> None:
    options = prepare(tmp_path, "text-classification") | {"checkpoint_every": None}
    with older_version():
        start(tmp_path / "whole", options)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunFolder, "save_checkpoint", lambda *_: None)
            stopped(tmp_path / "stopped", options, at=1)
    start(tmp_path / "stopped", options | {"resume": True})
    assert same_weights(tmp_path / "whole", tmp_path / "stopped")


def test_older_checkpoints_of_the_drop_in_programs_say_nothing_of_dropout(tmp_path: Path) -> None:
    """That they go on as they did, tests/test_older_versions.py shows."""
    from bertune.google.checkpoints import OutputFolder, newest
    from bertune.google.checkpoints import drops_by_example as of_checkpoint
    from bertune.options import AdamWOptions
    from bertune.training.loop.optimizer import AdamW
    from tests.training import small_run

    network = small_run.network()
    optimizer = AdamW(network.named_parameters(), AdamWOptions())
    for by_example in (True, False):
        folder = tmp_path / str(by_example)
        OutputFolder(folder, network, [], keep=1, drops_by_example=by_example).start(optimizer, resume=False)
        prefix = newest(folder)
        assert prefix is not None
        assert of_checkpoint(prefix) == by_example
