from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservices.catalog.model import fold, mend, slug_of

MISREAD = {
    "AstÈrix aux Jeux Olympiques": "Astérix aux Jeux Olympiques",
    "De battre mon coeur s'est arrÍtÈ": "De battre mon coeur s'est arrêté",
    "Per qualche dollaro in pi˘": "Per qualche dollaro in più",
    "I Love You Ö Don't Touch Me!": "I Love You … Don't Touch Me!",
    "The Naked Gun 2Ω: The Smell of Fear": "The Naked Gun 2½: The Smell of Fear",
    "LÈon": "Léon",
    "Die F‰lscher": "Die Fälscher",
    "DÈj‡ Vu": "Déjà Vu",
    "Obsluhoval jsem anglickÈho kr·le": "Obsluhoval jsem anglického krále",
    "La MÙme": "La Môme",
}
RIGHT = [
    "Alien³",
    "Ri¢hie Ri¢h",
    "Léon",
    "Déjà Vu",
    "Élégie",
    "ÉLÉGIE",
    "Ça ira",
    "Crème brûlée",
    "Øbro",
    "Ö",
    "À nos amours",
    "WALL·E",
    "Wait… What?",
    "The Matrix™",
    "Amélie – 20°",
    "千と千尋の神隠し",
    "plain",
    "",
]


@pytest.mark.parametrize("wrong", MISREAD)
def test_a_proven_misreading_is_mended(wrong: str) -> None:
    assert mend(wrong) == MISREAD[wrong]


@pytest.mark.parametrize("right", RIGHT)
def test_what_is_not_provably_wrong_is_left_alone(right: str) -> None:
    assert mend(right) is None


@given(st.text("abcdeghijklmnopqrstuvwxyz", min_size=1), st.sampled_from("éèêëàáâäçôöùûüïîíóòñø"))
def test_a_small_accent_after_a_small_letter_survives_the_misreading(
    word: str, accent: str
) -> None:
    name = f"La {word}{accent}s"
    assert mend(name.encode("cp1252").decode("mac_roman")) == name
    assert mend(name) is None


@given(st.text())
def test_mending_never_fails_and_never_mends_twice(text: str) -> None:
    mended = mend(text)
    assert mended is None or mend(mended) is None


def test_folding_forgets_case_accents_and_signs() -> None:
    assert fold("  L'Été, déjà — Œuvre!") == "lete deja oeuvre"
    assert fold("Ri¢hie Ri¢h") == "richie rich"
    assert fold("Alien³") == "alien3"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Let's Talk About Sex", "lets-talk-about-sex"),
        ("Léon", "leon"),
        ("9", "9"),
        ("千と", "u5343-3068"),
        ("x" * 200, "x" * 80),
    ],
)
def test_a_slug_is_short_readable_ascii(name: str, slug: str) -> None:
    assert slug_of(name) == slug


@given(st.text(min_size=1))
def test_every_name_has_a_slug_that_fits_a_path(name: str) -> None:
    slug = slug_of(name)
    assert slug
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
