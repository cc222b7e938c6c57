"""What an S3 server answered, read from the text of obstore's failures. Pure.

obstore has few kinds of failure and puts the status, the error code and the kind of a connection's
fault into its text: a listing that is refused, for one, is as generic as a server that is down.
"""

from __future__ import annotations

import re

import msgspec

from chassis.errors import ConfigurationFault, Missing, StagedoorError, StoreUnavailable
from chassis.storage.s3_place import S3Place

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_KIND = re.compile(r"kind: (Connect|Timeout|Interrupted)\b")
_REASONS = {
    "Connect": "no connection could be made",
    "Timeout": "no answer in time",
    "Interrupted": "the connection ended before the answer",
}
_BUSY = {"ConditionalRequestConflict", "OperationAborted"}
_FOLDER = {"ObjectParentIsFile", "ExistingObjectIsDirectory"}


class Answer(msgspec.Struct, frozen=True):
    """The HTTP status (0: none came), S3's error code ("" in answers to HEAD) and why none came."""

    status: int
    code: str
    reason: str

    @classmethod
    def read(cls, fault: BaseException) -> Answer:
        text = str(fault)
        status, code, kind = _STATUS.search(text), _CODE.search(text), _KIND.search(text)
        return cls(
            int(status[1]) if status else 0,
            code[1] if code else "",
            _REASONS[kind[1]] if kind else text.partition("\n")[0].rpartition(" - ")[2][:200],
        )

    @property
    def taken(self) -> bool:
        """The condition of the write does not hold, or an object is a folder of the key."""
        return self.status == 412 or self.contended or self.folder

    @property
    def contended(self) -> bool:
        """Another write of the key was under way; who won is not said."""
        return self.status == 409 and self.code in _BUSY

    @property
    def folder(self) -> bool:
        """What servers that keep files answer where `a` and `a/1` cannot both be."""
        return self.status == 409 and self.code in _FOLDER

    @property
    def missing(self) -> bool:
        return self.status == 404 and self.code in ("", "NoSuchKey")

    @property
    def no_bucket(self) -> bool:
        return self.code == "NoSuchBucket"

    @property
    def unknown(self) -> bool:
        """Nobody said what became of the request."""
        return self.status == 0 or self.status >= 500

    def failure(self, place: S3Place, key: str) -> StagedoorError:
        """What to raise when nothing better is known."""
        if self.no_bucket:
            return no_bucket(place)
        if self.missing:
            return Missing(f"there is no object {key}")
        if self.status in (401, 403) or "UserNotFound" in self.code:  # versitygw's word is 404
            return refused(place, self)
        said = " ".join(filter(None, (str(self.status or ""), self.code))) or self.reason
        advice = "slow down" if self.status == 503 else "is it running, and is the endpoint right?"
        return StoreUnavailable(f"{place}: {said}: {advice}")


def no_bucket(place: S3Place) -> ConfigurationFault:
    return ConfigurationFault(
        [f"{place}: there is no such bucket: make it, or allow making it with create=yes"],
        what="the objects URL",
    )


def refused(place: S3Place, answer: Answer) -> ConfigurationFault:
    """The keys do not fit; they are not shown."""
    said = f"{answer.status} {answer.code}".strip()
    return ConfigurationFault(
        [
            f"{place} refuses the keys ({said}): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
            " what they may do with the bucket, and this machine's clock"
        ],
        what="the objects URL",
    )
