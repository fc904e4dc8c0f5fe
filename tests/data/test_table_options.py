"""How a file is written is no part of a model."""

from bertune.tasks.registry import for_a_model, new_task, task_to_json


def test_options_of_a_file_are_not_kept_with_the_model() -> None:
    task = new_task(
        "text-classification", {"encoding": "cp1252", "delimiter": ";", "text_column": "t", "drop_unlabelled": True}
    )
    kept = for_a_model(task_to_json(task), task)["options"]
    assert kept["text_column"] == "t"
    assert kept["drop_unlabelled"], "the next labelled file has gaps too: evaluate and report need not be told again"
    assert not {"encoding", "delimiter", "header", "sheet"} & set(kept)
