"""Settings: typed, frozen, and every fault at once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chassis.config import load
from chassis.errors import ConfigurationFault


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    home: Path = Path("var")
    port: int = 1
    ratio: float = 0.5
    verbose: bool = False
    name: str


def test_the_environment_overrides_the_file_and_the_file_the_default(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('port = 2\nname = "from file"\n')
    settings = load(Settings, {"STAGEDOOR_PORT": "3", "STAGEDOOR_HOME": "/x"}, file=file)
    assert settings == Settings(home=Path("/x"), port=3, name="from file")


def test_all_faults_are_said_at_once_with_where_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('prot = 2\nratio = "much"\n')
    with pytest.raises(ConfigurationFault) as caught:
        load(Settings, {"STAGEDOOR_PORT": "eighty"}, file=file)
    said = str(caught.value)
    assert len(caught.value.faults) == 4
    for part in (
        "prot",
        "ratio" if "ratio" in said else str(file),
        "STAGEDOOR_PORT",
        "STAGEDOOR_NAME",
    ):
        assert part in said


@pytest.mark.parametrize(("text", "value"), [("true", True), ("0", False), ("1", True)])
def test_flags_read_as_people_write_them(text: str, value: bool) -> None:
    assert load(Settings, {"STAGEDOOR_VERBOSE": text, "STAGEDOOR_NAME": "n"}).verbose is value


def test_a_file_that_is_missing_or_broken_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault, match="cannot be read"):
        load(Settings, {"STAGEDOOR_NAME": "n"}, file=tmp_path / "none.toml")
    broken = tmp_path / "b.toml"
    broken.write_text("port = ")
    with pytest.raises(ConfigurationFault, match=r"b\.toml"):
        load(Settings, {"STAGEDOOR_NAME": "n"}, file=broken)


class Listing(msgspec.Struct, frozen=True):
    names: tuple[str, ...] = ()


@pytest.mark.parametrize("text", ["a b", "a,b", " a,\tb "])
def test_a_list_has_blanks_or_commas_between(text: str) -> None:
    assert load(Listing, {"STAGEDOOR_NAMES": text}).names == ("a", "b")
    assert load(Listing, {"STAGEDOOR_NAMES": ""}).names == ()
