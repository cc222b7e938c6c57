from __future__ import annotations

import pytest

from chassis.contracts.common import Drm
from chassis.contracts.protection import TIERS, key_id, protected_height, tier_of, tiers_up_to


def test_every_tier_of_every_title_has_a_key_id_of_its_own_for_ever() -> None:
    ids = {key_id(title, tier) for title in ("a-2000", "b-2000") for tier in TIERS}
    assert len(ids) == 2 * len(TIERS)
    assert key_id("casablanca-1941", "sd") == "7322e81a2f75563aa6ca56a496bdf95a"
    assert all(len(bytes.fromhex(one)) == 16 for one in ids)


@pytest.mark.parametrize(
    ("height", "tiers"),
    [
        (0, ("sd",)),
        (480, ("sd",)),
        (576, ("sd",)),
        (720, ("sd", "hd")),
        (1080, ("sd", "hd", "fhd")),
        (2160, TIERS),
    ],
)
def test_a_cap_opens_the_tiers_below_it(height: int, tiers: tuple[str, ...]) -> None:
    assert tiers_up_to(height) == tiers
    assert tier_of(height) == tiers[-1]


@pytest.mark.parametrize(
    ("system", "level", "hdcp", "height"),
    [
        ("clearkey", "", "2.2", 1080),
        ("widevine", "L1", "2.2", 2160),
        ("widevine", "L1", "1.4", 1080),
        ("widevine", "L1", "none", 540),
        ("widevine", "l3", "2.3", 720),
        ("widevine", "what", "2.2", 720),
        ("playready", "SL3000", "2.2", 2160),
        ("playready", "SL2000", "2.2", 1080),
        ("none", "L1", "2.2", 0),
    ],
)
def test_a_device_gets_what_its_protection_is_trusted_with(
    system: str, level: str, hdcp: str, height: int
) -> None:
    assert protected_height(Drm(system=system, level=level), hdcp) == height  # type: ignore[arg-type]
