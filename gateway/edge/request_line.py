"""The first line of a request, read strictly before a parser sees anything of the request.

llhttp is lenient here: it takes several blanks between the parts, other protocols' names, and only
the methods it knows. So the line is ours to read, and the parser is left with fields and bodies.
"""

from __future__ import annotations

import re

from chassis.errors import BadRequest, StagedoorError
from gateway.edge.refusals import NotImplementedHere, TargetTooLong, VersionNotSupported

METHOD_MAXIMUM = 32
PARSED = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
"""Methods whose line may go to the parser as it is."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_LINE = re.compile(rb"(%b{1,32}) ([!-\"$-~]+) HTTP/1\.([01])" % _TOKEN)
_BEGINNING = re.compile(
    rb"%b{0,32}(?: (?:[!-~]+(?: (?:H(?:T(?:T(?:P(?:/[0-9.]{0,8}\r?)?)?)?)?)?)?)?)?" % _TOKEN
)
_LONG_METHOD = re.compile(rb"%b{33}" % _TOKEN)
_OTHER_VERSION = re.compile(rb"%b{1,32} [!-\"$-~]+ HTTP/(?!1\.[01])[0-9]\.[0-9]" % _TOKEN)


def check_beginning(data: bytes, longest: int) -> None:
    """`data` is a line without its end: refused as soon as nothing good can become of it.

    `longest` is what a target may have.
    """
    if _BEGINNING.fullmatch(data) is None:
        raise _unusable(data)
    _, _, rest = data.partition(b" ")
    if len(rest) > longest and len(rest.partition(b" ")[0]) > longest:
        raise TargetTooLong("the request target is too long")


def read_line(line: bytes, longest: int) -> tuple[bytes, bytes, bool]:
    """Method, target, and whether it is HTTP/1.1, of a line without its CR LF."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise _unusable(line)
    method, target, minor = match.groups()
    if len(target) > longest:
        raise TargetTooLong("the request target is too long")
    return method, target, minor == b"1"


def begun_method(line: bytes) -> bytes:
    """The method as far as it is known, of a line that may be refused."""
    method, blank, _ = line[: METHOD_MAXIMUM + 1].partition(b" ")
    return method if blank else b""


def _unusable(line: bytes) -> StagedoorError:
    if _OTHER_VERSION.fullmatch(line) is not None:
        return VersionNotSupported("only HTTP/1.1 and HTTP/1.0 are spoken here")
    if _LONG_METHOD.match(line) is not None:
        return NotImplementedHere(f"a method has at most {METHOD_MAXIMUM} characters here")
    if b"#" in line:
        return BadRequest("the target has a fragment", code="target")
    return BadRequest("the request line is malformed", code="framing")
