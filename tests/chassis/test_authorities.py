"""Whose certificates a client trusts."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from chassis.authorities import trusting
from chassis.errors import ConfigurationFault
from tests.support.certificates import Authority


def test_only_the_authorities_in_the_file_are_trusted_and_names_are_checked(tmp_path: Path) -> None:
    context = trusting(str(Authority(tmp_path).file), what="the URL")
    (trusted,) = context.get_ca_certs()
    assert trusted["subject"] == ((("commonName", "Tests"),),)
    assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED


def test_names_are_checked_also_with_the_authorities_of_the_system() -> None:
    context = trusting("", what="the URL")
    assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("name", "why"),
    [("missing", "no such file"), ("", "is a directory"), ("empty", "holds no certificate")],
)
def test_a_file_without_certificates_is_a_wrong_setting(
    name: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigurationFault, match=why) as raised:
        trusting(str(tmp_path / name), what="the URL")
    assert "name a PEM file" in str(raised.value)
