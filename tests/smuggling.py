"""Requests that two programs may read in two ways (faults.md S-23): what must be refused, and what is read in one way only.

Each is all that one connection sends. `got` are the requests that an app may be given for it, as (method, target, body).
"""

from __future__ import annotations

from dataclasses import dataclass

_LINE = b"POST /me/app HTTP/1.1\r\n"
_POST = _LINE + b"host: x\r\n"
_SIZED = b"content-length: 2\r\n"
_CHUNKED = _POST + b"transfer-encoding: chunked\r\n\r\n"
_LAST = b"0\r\n\r\n"
_GET = b"GET /me/app/next HTTP/1.1\r\nhost: x\r\n\r\n"


@dataclass(frozen=True)
class Case:
    what: str
    sent: bytes
    got: tuple[tuple[str, str, bytes], ...] = ()
    refused: bool = True
    """The last answer is a 400 or 431 and the connection ends."""


def _bad(what: str, sent: bytes, *got: tuple[str, str, bytes]) -> Case:
    return Case(what, sent, got)


def _good(what: str, sent: bytes, *got: tuple[str, str, bytes]) -> Case:
    return Case(what, sent, got or (("POST", "/me/app", b"{}"),), refused=False)


def _head(what: str, field: bytes, rest: bytes = b"{}") -> Case:
    return _bad(what, _POST + field + b"\r\n\r\n" + rest)


def _request_line(what: str, line: bytes) -> Case:
    return _bad(what, line + b"\r\nhost: x\r\n" + _SIZED + b"\r\n{}")


def _chunks(what: str, chunks: bytes) -> Case:
    return _bad(what, _CHUNKED + chunks)


CASES = (
    # two lengths
    _head("a length, then chunks", b"content-length: 4\r\ntransfer-encoding: chunked", _LAST),
    _head("chunks, then a length", b"transfer-encoding: chunked\r\ncontent-length: 4", _LAST),
    _head("chunks, a length, and a request inside", b"content-length: 45\r\ntransfer-encoding: chunked", _LAST + _GET),
    _head("two equal lengths", b"content-length: 2\r\ncontent-length: 2"),
    _head("two unequal lengths", b"content-length: 2\r\ncontent-length: 3"),
    # a length that is none
    _head("a list of lengths", b"content-length: 2, 2"),
    _head("a length with a plus", b"content-length: +2"),
    _head("a negative length", b"content-length: -2"),
    _head("a hexadecimal length", b"content-length: 0x2"),
    _head("a length with an underscore", b"content-length: 0_2"),
    _head("two numbers", b"content-length: 2 2"),
    _head("a length with a parameter", b"content-length: 2;x"),
    _head("an empty length", b"content-length: "),
    _head("a length beyond 64 bits", b"content-length: 18446744073709551618"),
    _head("a length of another script", b"content-length: \xc2\xb2"),
    _head("a fraction", b"content-length: 2.0"),
    # a coding that is none
    _head("a coding nobody knows", b"transfer-encoding: xchunked", _LAST),
    _head("identity", b"transfer-encoding: identity", _LAST),
    _head("compressed, then chunked", b"transfer-encoding: gzip, chunked", _LAST),
    _head("chunked, then compressed", b"transfer-encoding: chunked, gzip", _LAST),
    _head("chunked twice", b"transfer-encoding: chunked, chunked", _LAST),
    _head("two codings", b"transfer-encoding: chunked\r\ntransfer-encoding: chunked", _LAST),
    _head("chunked and identity", b"transfer-encoding: chunked\r\ntransfer-encoding: identity", _LAST),
    _head("identity and chunked", b"transfer-encoding: identity\r\ntransfer-encoding: chunked", _LAST),
    _head("a vertical tab before the coding", b"transfer-encoding: \x0bchunked", _LAST),
    _head("a coding with a parameter", b"transfer-encoding: chunked;q=1", _LAST),
    _head("a coding in quotes", b'transfer-encoding: "chunked"', _LAST),
    _head("a coding behind a comma", b"transfer-encoding: ,chunked", _LAST),
    _head("no coding", b"transfer-encoding: "),
    _head("a byte behind the coding", b"transfer-encoding: chunked\xa0", _LAST),
    _bad("chunks of an old version", b"POST /me/app HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + _LAST),
    # lines
    _head("a blank before a colon", b"transfer-encoding : chunked", _LAST),
    _head("a blank before the colon of a length", b"content-length : 2"),
    _head("a tab before a colon", b"x\t: y\r\ncontent-length: 2"),
    _bad("a blank before the first field", _LINE + b" host: x\r\n" + _SIZED + b"\r\n{}"),
    _head("a folded line", b"x: a\r\n b\r\ncontent-length: 2"),
    _head("a folded line of a tab", b"x: a\r\n\tb\r\ncontent-length: 2"),
    _head("a folded coding", b"transfer-encoding:\r\n chunked", _LAST),
    _head("a folded length", b"content-length:\r\n 2"),
    _head("a line without a colon", b"xyz\r\ncontent-length: 2"),
    _head("a field without a name", b": x\r\ncontent-length: 2"),
    _head("NUL in a name", b"x\x00: y\r\ncontent-length: 2"),
    _head("a control character in a name", b"x\x01: y\r\ncontent-length: 2"),
    _head("a letter beyond ASCII in a name", b"x\xff: y\r\ncontent-length: 2"),
    _head("a bracket in a name", b"x(: y\r\ncontent-length: 2"),
    _head("NUL in a value", b"x: a\x00b\r\ncontent-length: 2"),
    _head("a control character in a value", b"x: a\x01b\r\ncontent-length: 2"),
    _head("DEL in a value", b"x: a\x7fb\r\ncontent-length: 2"),
    _head("a bare CR in a value", b"x: a\rb\r\ncontent-length: 2"),
    _head("a field behind a bare CR", b"x: a\rcontent-length: 5\r\ncontent-length: 2"),
    _head("a field behind a bare LF", b"x: a\ncontent-length: 2"),
    _bad("bare LF everywhere", b"POST /me/app HTTP/1.1\nhost: x\ncontent-length: 2\n\n{}"),
    _bad("a bare LF behind the first line", b"POST /me/app HTTP/1.1\nhost: x\r\n" + _SIZED + b"\r\n{}"),
    _bad("a bare LF at the end of the head", _POST + _SIZED + b"\n{}"),
    _bad("a bare CR at the end of the head", _POST + _SIZED + b"\r{}"),
    _bad("CR CR LF", _LINE + b"host: x\r\r\n" + _SIZED + b"\r\n{}"),
    _bad("a blank before the request", b" " + _POST + _SIZED + b"\r\n{}"),
    # chunks
    _chunks("a quoted line in an extension", b'2;a="b\r\n"\r\n{}\r\n' + _LAST),
    _chunks("LF in an extension", b"2;\nxx\r\n{}\r\n" + _LAST),
    _chunks("CR in an extension", b"2;a\rxx\r\n{}\r\n" + _LAST),
    _chunks("NUL in an extension", b"2;\x00\r\n{}\r\n" + _LAST),
    _chunks("a blank behind a size", b"2 \r\n{}\r\n" + _LAST),
    _chunks("a blank before a size", b" 2\r\n{}\r\n" + _LAST),
    _chunks("a size with 0x", b"0x2\r\n{}\r\n" + _LAST),
    _chunks("a size with a plus", b"+2\r\n{}\r\n" + _LAST),
    _chunks("a negative size", b"-2\r\n{}\r\n" + _LAST),
    _chunks("a size with an underscore", b"0_2\r\n{}\r\n" + _LAST),
    _chunks("no size", b"\r\n{}\r\n" + _LAST),
    _chunks("a size beyond 64 bits", b"10000000000000002\r\n{}\r\n" + _LAST),
    _chunks("no end of a chunk", b"2\r\n{}xx" + _LAST),
    _chunks("a chunk that ends with LF", b"2\r\n{}\n" + _LAST),
    _chunks("a chunk that ends with CR", b"2\r\n{}\r" + _LAST),
    _chunks("a size that ends with LF", b"2\n{}\r\n" + _LAST),
    _chunks("a size that ends with CR", b"2\r{}\r\n" + _LAST),
    _chunks("a last chunk that ends with LF", b"2\r\n{}\r\n0\n\n"),
    _chunks("an end of LF", b"2\r\n{}\r\n0\r\n\n"),
    _chunks("a length behind the chunks", b"2\r\n{}\r\n0\r\ncontent-length: 5\r\n\r\n"),
    _chunks("a coding behind the chunks", b"2\r\n{}\r\n0\r\ntransfer-encoding: gzip\r\n\r\n"),
    _chunks("endless fields behind the chunks", b"2\r\n{}\r\n0\r\n" + b"x: y\r\n" * 10_000 + b"\r\n"),
    # versions
    _bad("HTTP/0.9", b"GET /me/app\r\n\r\n"),
    _request_line("HTTP/0.9 by name", b"POST /me/app HTTP/0.9"),
    _request_line("HTTP/1.2", b"POST /me/app HTTP/1.2"),
    _request_line("HTTP/2.0", b"POST /me/app HTTP/2.0"),
    _request_line("HTTP/1.10", b"POST /me/app HTTP/1.10"),
    _request_line("http/1.1", b"POST /me/app http/1.1"),
    _request_line("Icecast", b"SOURCE /me/app ICE/1.0"),
    _request_line("RTSP", b"PLAY /me/app RTSP/1.0"),
    _bad("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    _bad("another protocol", b"EHLO x\r\nMAIL FROM:<me/app@x>\r\n"),
    # first lines
    _request_line("a blank behind the version", b"POST /me/app HTTP/1.1 "),
    _request_line("a blank in the address", b"POST /me/app b HTTP/1.1"),
    _request_line("tabs", b"POST\t/me/app\tHTTP/1.1"),
    _request_line("a method of 10,000 letters", b"A" * 10_000 + b" /me/app HTTP/1.1"),
    _request_line("a method that nobody knows", b"FOO /me/app HTTP/1.1"),
    _request_line("a method in small letters", b"post /me/app HTTP/1.1"),
    _request_line("an address of another host", b"POST http://other/me/app HTTP/1.1"),
    _request_line("an address of another port", b"POST http://x:81/me/app HTTP/1.1"),
    _request_line("an address with a password", b"POST http://u:p@x/me/app HTTP/1.1"),
    _request_line("an address without a path", b"POST http://x HTTP/1.1"),
    _request_line("a host and nothing else", b"POST x:80 HTTP/1.1"),
    _request_line("CONNECT", b"CONNECT x:80 HTTP/1.1"),
    _request_line("a star", b"POST * HTTP/1.1"),
    _request_line("an address without its slash", b"POST me/app HTTP/1.1"),
    _request_line("a fragment", b"POST /me/app#x HTTP/1.1"),
    _request_line("a byte beyond ASCII", b"POST /me/app\xff HTTP/1.1"),
    _request_line("a byte beyond ASCII in the query", b"POST /me/app?\xff HTTP/1.1"),
    _request_line("NUL", b"POST /me/app\x00 HTTP/1.1"),
    _request_line("DEL", b"POST /me/app\x7f HTTP/1.1"),
    # hosts
    _bad("no host", _LINE + _SIZED + b"\r\n{}"),
    _head("two hosts", b"host: y\r\ncontent-length: 2"),
    _head("the same host twice", b"host: x\r\ncontent-length: 2"),
    _bad("two hosts in one", _LINE + b"host: x, y\r\n" + _SIZED + b"\r\n{}"),
    _bad("a host with a path", _LINE + b"host: x/y\r\n" + _SIZED + b"\r\n{}"),
    _bad("a host with a name before it", _LINE + b"host: y@x\r\n" + _SIZED + b"\r\n{}"),
    # what follows
    _bad(
        "more than the length says",
        _POST + _SIZED + b"\r\n{}GARBAGE\r\n\r\n",
        ("POST", "/me/app", b"{}"),
    ),
    _bad("a body that nobody announced", _GET + b"{}\r\n\r\n", ("GET", "/me/app/next", b"")),
    _bad(
        "a good one, then a bad one",
        _POST + _SIZED + b"\r\n{}" + _POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n" + _LAST,
        ("POST", "/me/app", b"{}"),
    ),
    # read in one way
    _good("a length", _POST + _SIZED + b"\r\n{}"),
    _good("a length with blanks around it", _POST + b"content-length:\t 2 \t\r\n\r\n{}"),
    _good("a length with a zero before it", _POST + b"content-length: 02\r\n\r\n{}"),
    _good("chunks", _CHUNKED + b"1\r\n{\r\n1\r\n}\r\n" + _LAST),
    _good("chunks in capitals", _POST + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\n{}\r\n" + _LAST),
    _good("an extension", _CHUNKED + b'2;a=b;c="d"\r\n{}\r\n' + _LAST),
    _good("zeros before a size", _CHUNKED + b"0" * 50 + b"2\r\n{}\r\n" + _LAST),
    _good("a field behind the chunks", _CHUNKED + b"2\r\n{}\r\n0\r\nx-late: y\r\nauthorization: Key a:b\r\nhost: z\r\n\r\n"),
    _good("empty lines before the request", b"\r\n\r\n" + _POST + _SIZED + b"\r\n{}"),
    _good("an old version", b"POST /me/app HTTP/1.0\r\n" + _SIZED + b"\r\n{}"),
    _good("its own host in the address", b"POST http://X/me/app HTTP/1.1\r\nhost: x\r\n" + _SIZED + b"\r\n{}"),
    _good("a length with another name", _POST + b"content_length: 3\r\n" + _SIZED + b"\r\n{}"),
    _good("a length that is to be forgotten", _POST + b"connection: content-length\r\n" + _SIZED + b"\r\n{}"),
    _good("bytes beyond ASCII in a value", _POST + b"x: \xff\r\n" + _SIZED + b"\r\n{}"),
    _good("two requests", _POST + _SIZED + b"\r\n{}" + _GET, ("POST", "/me/app", b"{}"), ("GET", "/me/app/next", b"")),
    _good("a query", b"POST /me/app?a=%0d%0ab HTTP/1.1\r\nhost: x\r\n" + _SIZED + b"\r\n{}", ("POST", "/me/app?a=%0d%0ab", b"{}")),
    # An upgrade that nobody accepts: the parser takes the body for another protocol.
    _good(
        "a body behind an upgrade",
        _POST + b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n" + _SIZED + b"\r\n{}",
    ),
    _good(
        "a request as the body behind an upgrade",
        _POST + b"connection: upgrade\r\nupgrade: x\r\ncontent-length: %d\r\n\r\n" % len(_GET) + _GET,
        ("POST", "/me/app", _GET),
    ),
    _good(
        "chunks behind an upgrade, and another request",
        _POST + b"connection: upgrade\r\nupgrade: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n" + _LAST + _GET,
        ("POST", "/me/app", b"{}"),
        ("GET", "/me/app/next", b""),
    ),
    _good(
        "nothing behind an upgrade, and another request",
        b"GET /me/app HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n" + _GET,
        ("GET", "/me/app", b""),
        ("GET", "/me/app/next", b""),
    ),
    _bad(
        "bad chunks behind an upgrade",
        _POST + b"connection: upgrade\r\nupgrade: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}xx\r\n" + _LAST,
    ),
)
