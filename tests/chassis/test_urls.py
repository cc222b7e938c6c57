from __future__ import annotations

import pytest

from chassis.errors import ConfigurationFault
from chassis.urls import ENCODE, parts_of


def test_a_url_comes_apart() -> None:
    parts = parts_of("kafka://us:p%40ss@a:1,b:2/x?y=z", ENCODE, what="the URL")
    assert (parts.netloc, parts.path, parts.query) == ("us:p%40ss@a:1,b:2", "/x", "y=z")


@pytest.mark.parametrize("mark", "/?#[")
def test_a_password_that_was_not_encoded_is_advice_and_not_shown(mark: str) -> None:
    with pytest.raises(ConfigurationFault, match="percent-encode") as caught:
        parts_of(f"kafka://us:sec{mark}ret@a:1", ENCODE, "as in …", what="the URL")
    assert caught.value.faults == (ENCODE, "as in …")
    assert "sec" not in str(caught.value)
    assert "ret" not in str(caught.value)
