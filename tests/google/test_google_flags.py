"""Command lines in every spelling that absl takes."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertune.errors import InputError
from bertune.google.flags import parse_flags
from bertune.options import option


@dataclass(frozen=True)
class Some:
    data_dir: str = option(help="a folder")
    do_train: bool = option(False, help="train")
    do_lower_case: bool = option(True, help="lower")
    size: int = option(8, help="a number")
    rate: float = option(0.5, help="a rate")
    master: str | None = option(None, help="a name")


def read(*arguments: str) -> Some:
    return parse_flags("program", [Some], ["--data_dir=d", *arguments]).of(Some)


def refused(*arguments: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_flags("program", [Some], arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    "spelled",
    ["--do_train", "-do_train", "--do_train=true", "--do_train=True", "--do_train=1", "--do_train=t", "--do_train=yes"],
)
def test_switching_on(spelled: str) -> None:
    assert read(spelled).do_train


@pytest.mark.parametrize(
    "spelled", ["--nodo_lower_case", "-nodo_lower_case", "--do_lower_case=False", "--do_lower_case=0", "--do_lower=F"]
)
def test_switching_off(spelled: str) -> None:
    assert not read(spelled).do_lower_case


def test_values_with_a_space_an_equals_sign_and_a_minus() -> None:
    assert read("--size", "3", "-rate=-1e-3", "--master", "-x=y") == Some("d", size=3, rate=-1e-3, master="-x=y")
    assert read("--size=3", "--size=0x10").size == 16, "the last one counts"


def test_a_word_true_behind_a_switch_is_passed_over_and_false_is_refused() -> None:
    assert read("--do_train", "true", "--size=2") == Some("d", do_train=True, size=2)
    assert "--do_train=false" in refused("--data_dir=d", "--do_train", "false")


def test_flag_files_nest_and_hold_comments(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.write_text("--size=5\n")
    outer.write_text(f"# why\n// so\n\n--do_train\n--flagfile={inner}\n--master=a b\n")
    assert read(f"--flagfile={outer}") == Some("d", do_train=True, size=5, master="a b")
    assert read("--flagfile", str(outer), "--size=6").size == 6
    inner.write_text(f"--flagfile={outer}\n")
    assert "names itself" in refused("--data_dir=d", f"--flagfile={outer}")
    assert "cannot be read" in refused("--data_dir=d", "--flagfile=gone")


def test_all_faults_are_told_at_once() -> None:
    message = refused("--do_trian", "--size=many", "--do_train=perhaps", "--rate", "word", "extra", "--data-dir=x")
    assert "no flag --do_trian; did you mean --do_train?" in message
    assert "--size=many: expected a whole number" in message
    assert "--do_train=perhaps: expected true or false" in message
    assert "'word'" in message or "--rate=word" in message
    assert "'extra'" in message
    assert "did you mean --data_dir?" in message
    assert "flag --data_dir must be given" in message
    assert "--size: needs a value" in refused("--data_dir=d", "--size")


def test_absls_own_flags_and_undefok() -> None:
    assert read("--logtostderr", "--verbosity=1", "--undefok=zeal", "--zeal=1", "--noshowprefixforinfo") == Some("d")


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags("program", [Some], ["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("--data_dir", "--[no]do_train", "default: 8"))


TEXTS = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=6)
SPELLED = st.one_of(
    st.sampled_from(["--do_train", "--nodo_train", "-nodo_lower_case", "--do_lower_case=f"]),
    st.integers(-9, 99).map("--size={}".format),
    st.floats(-2, 2).map("-rate={}".format),
    TEXTS.map("--master={}".format),
)


@given(st.lists(SPELLED, max_size=6))
def test_absl_reads_the_same(arguments: list[str]) -> None:
    absl = pytest.importorskip("absl.flags")
    values = absl.FlagValues()
    absl.DEFINE_string("data_dir", None, "", flag_values=values)
    absl.DEFINE_bool("do_train", False, "", flag_values=values)
    absl.DEFINE_bool("do_lower_case", True, "", flag_values=values)
    absl.DEFINE_integer("size", 8, "", flag_values=values)
    absl.DEFINE_float("rate", 0.5, "", flag_values=values)
    absl.DEFINE_string("master", None, "", flag_values=values)
    assert values(["program", "--data_dir=d", *arguments]) == ["program"]
    assert read(*arguments) == Some(**values.flag_values_dict())
