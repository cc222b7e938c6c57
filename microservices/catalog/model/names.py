"""Names of titles: mended where they were misread, folded to be compared, and made into ids."""

from __future__ import annotations

import re
import unicodedata


def slug_of(name: str) -> str:
    """The name in `a-z 0-9 -`; its code points where nothing of it can be written so."""
    slug = re.sub("[^a-z0-9]+", "-", fold(name)).strip("-")[:80].rstrip("-")
    return slug or "u" + "-".join(f"{ord(letter):x}" for letter in name[:12])


_LETTERS = str.maketrans({"¢": "c", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d"})


def fold(text: str) -> str:
    """For comparing: no case, no accents, no apostrophes, other signs as spaces."""
    plain = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    plain = "".join(c for c in plain if not unicodedata.combining(c) and c not in "'’`")
    return " ".join("".join(c if c.isalnum() else " " for c in plain).split())


def mend(text: str) -> str | None:
    """The text with cp1252 bytes that were read as Mac Roman read rightly; None when not provable.

    Proof needs every character outside ASCII to be out of place as it stands (a capital or a sign
    beside a small letter, a sign after a digit, a lone capital between words) and to make sense
    once read rightly (a small letter, a fraction, an ellipsis). `Léon` has no proof against it,
    `LÈon` has.
    """
    if text.isascii():
        return None
    try:
        right = text.encode("mac_roman").decode("cp1252")
    except UnicodeError:
        return None
    changed = [at for at, letter in enumerate(text) if not letter.isascii()]
    return right if all(_misread(text, right, at) for at in changed) else None


def _misread(text: str, right: str, at: int) -> bool:
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    wrong, meant = text[at], right[at]
    out_of_place = not wrong.islower()
    if meant == "…":
        return wrong.isupper() and (before.islower() or before == after == " ")
    if unicodedata.category(meant) == "No":
        return out_of_place and before.isdigit()
    if unicodedata.category(meant) != "Ll" or not out_of_place:
        return False
    if wrong.isupper() and "LATIN" in unicodedata.name(wrong, ""):
        return bool(before) and before.isalpha() and _small_beside(text, at)
    return before.islower() or after.islower()


def _small_beside(text: str, at: int) -> bool:
    """Whether the word around `at` has small letters before it, or after one leading capital."""
    start = text.rfind(" ", 0, at) + 1
    ahead = text[start:at]
    after = text[at + 1 : at + 2]
    return any(c.islower() for c in ahead) or (len(ahead) == 1 and after.islower())
