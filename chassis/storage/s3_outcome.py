"""What became of a conditional write, from its answer and from what is at the key now. Pure.

A write carries a token that no other write has. Each judge returns the object's tag when the write
happened, raises when it lost, and returns None when it may be tried again: the same token again,
so that it does not matter which of the tries arrives. `again` says that it was tried before.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from chassis.errors import AlreadyExists, Conflict, Missing, StoreUnavailable
from chassis.storage.s3_answers import Answer


class Found(msgspec.Struct, frozen=True):
    """The object that is at the key."""

    token: str
    tag: str


Judge = Callable[[Answer, Found | None, bool], str | None]


def created(key: str, token: str) -> Judge:
    """Judges a write under the condition that there is no object."""

    def judge(answer: Answer, found: Found | None, again: bool) -> str | None:
        if found is not None and found.token == token:
            return found.tag
        if found is not None:
            raise AlreadyExists(f"the object {key} exists")
        if answer.folder:
            raise AlreadyExists(
                f"the object {key}: a folder of it is an object itself, or it is one"
            )
        if answer.taken and not answer.contended:  # by one that is gone; an earlier try's, maybe
            if again:
                raise StoreUnavailable(f"{key} was removed while it was written: see who did")
            raise AlreadyExists(f"the object {key} existed")
        return None

    return judge


def replaced(key: str, token: str, tag: str) -> Judge:
    """Judges a write under the condition that the object carries `tag`."""

    def judge(answer: Answer, found: Found | None, again: bool) -> str | None:
        if found is None:
            raise Missing(f"there is no object {key}")
        if found.token == token:
            return found.tag
        if found.tag != tag or (answer.taken and not answer.contended):
            raise Conflict(f"the object {key} has changed since")
        return None

    return judge
