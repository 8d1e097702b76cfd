"""Requests that must be refused, and neighbours of theirs that must not be. What is sent is exactly `raw`."""

from typing import NamedTuple

H = b"Host: gateway.test\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
END = b"0\r\n\r\n"  # of a chunked body
SECOND = b"GET /inline HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n"


class Row(NamedTuple):
    """One request: the case of the threat list, what is odd about it, the bytes, the status of the only answer."""

    threat: str
    oddity: str
    raw: bytes
    status: int


def _get(target: bytes, *fields: bytes) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + H + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def _post(*fields: bytes, body: bytes = b"") -> bytes:
    return b"POST /inline HTTP/1.1\r\n" + H + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


MALFORMED = [
    # How long is the body? (CL/TE)
    Row("C04", "both lengths, CL first", _post(b"Content-Length: 5", CHUNKED, body=END), 400),
    Row("C04", "both lengths, TE first", _post(CHUNKED, b"Content-Length: 5", body=END), 400),
    Row("C04", "chunked", _post(CHUNKED, body=END), 501),
    Row("C04", "chunked in capitals", _post(b"TRANSFER-ENCODING: CHUNKED", body=END), 501),
    Row("C04", "identity", _post(b"Transfer-Encoding: identity"), 400),
    Row("C04", "TE twice", _post(CHUNKED, b"Transfer-Encoding: identity", body=END), 400),
    Row("C04", "TE that starts with a tab", _post(b"Transfer-Encoding:\tchunked", body=END), 501),
    Row("C04", "TE with a vertical tab", _post(b"Transfer-Encoding: \x0bchunked", body=END), 400),
    Row("C04", "TE with a quoted coding", _post(b'Transfer-Encoding: "chunked"', body=END), 400),
    Row("C04", "TE with a blank before the colon", _post(b"Transfer-Encoding : chunked", body=END), 400),
    Row("C04", "TE hidden by a fold", _post(b"X: y\r\n Transfer-Encoding: chunked", body=END), 400),
    Row("C04", "TE behind a bare LF", _post(b"X: y\nTransfer-Encoding: chunked", body=END), 400),
    Row("C04", "TE behind a bare CR", _post(b"X: y\rTransfer-Encoding: chunked", body=END), 400),
    Row("C04", "TE with an underscore", _post(b"Transfer_Encoding: chunked", body=END), 400),
    Row("C05", "gzip, chunked", _post(b"Transfer-Encoding: gzip, chunked", body=END), 501),
    Row("C05", "chunked, gzip", _post(b"Transfer-Encoding: chunked, gzip", body=END), 400),
    Row("C05", "chunked in HTTP/1.0", b"POST /inline HTTP/1.0\r\n" + H + CHUNKED + b"\r\n\r\n" + END, 501),
    Row("C04", "two lengths that differ", _post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), 400),
    Row("C04", "two lengths that agree", _post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), 400),
    Row("C04", "a list of lengths", _post(b"Content-Length: 5, 5", body=b"hello"), 400),
    Row("C04", "a signed length", _post(b"Content-Length: +5", body=b"hello"), 400),
    Row("C09", "a negative length", _post(b"Content-Length: -1"), 400),
    Row("C04", "a hexadecimal length", _post(b"Content-Length: 0x5", body=b"hello"), 400),
    Row("C04", "a length with an underscore", _post(b"Content-Length: 1_0", body=b"hello"), 400),
    Row("C04", "a length in Arabic digits", _post("Content-Length: \u0665".encode(), body=b"hello"), 400),
    Row("C04", "an empty length", _post(b"Content-Length:", body=b"hello"), 400),
    Row("C04", "a length with blanks in it", _post(b"Content-Length: 1 0", body=b"hello"), 400),
    Row("C09", "a length of 2^63", _post(b"Content-Length: 9223372036854775808"), 413),
    Row("C09", "a length of 2^64 + 5", _post(b"Content-Length: 18446744073709551621", body=b"hello"), 400),
    Row("C09", "a length one above the limit", _post(b"Content-Length: 65537"), 413),
    Row("C09", "a body that does not come", _post(b"Content-Length: 60000", body=b"hello"), 408),
    Row("C09", "a gigabyte in chunks", _post(CHUNKED, body=b"40000000\r\nx"), 501),
    Row("C09", "a chunk size that overflows", _post(CHUNKED, body=b"10000000000000005\r\nhello"), 501),
    Row("C09", "many chunks of one byte", _post(CHUNKED, body=b"1\r\nx\r\n" * 10_000), 501),
    Row("C04", "a GET with a body", _get(b"/inline", b"Content-Length: 5") + b"hello", 400),
    # Line ends and names
    Row("C04", "LF ends lines", b"GET /inline HTTP/1.1\nHost: gateway.test\n\n", 400),
    Row("C04", "LF ends the request line", b"GET /inline HTTP/1.1\nHost: gateway.test\r\n\r\n", 400),
    Row("C04", "CR CR LF", b"GET /inline HTTP/1.1\r\r\n" + H + b"\r\n", 400),
    Row("C04", "an empty line first", b"\r\nGET /inline HTTP/1.1\r\n" + H + b"\r\n", 400),
    Row("C04", "obsolete folding", _get(b"/inline", b"X: a\r\n b"), 400),
    Row("C04", "folding with a tab", _get(b"/inline", b"X: a\r\n\tb"), 400),
    Row("C04", "a fold before the first field", b"GET /inline HTTP/1.1\r\n X: a\r\n" + H + b"\r\n", 400),
    Row("C04", "a field without a colon", _get(b"/inline", b"X"), 400),
    Row("C04", "a field without a name", _get(b"/inline", b": a"), 400),
    Row("C04", "a name with a blank", _get(b"/inline", b"X Y: a"), 400),
    Row("C04", "a name with NUL", _get(b"/inline", b"X\x00Y: a"), 400),
    Row("C04", "a name that is not ASCII", _get(b"/inline", b"X\xc3\xa4: a"), 400),
    Row("C04", "a value with NUL", _get(b"/inline", b"X: a\x00b"), 400),
    Row("C17", "a value with ESC", _get(b"/inline", b"User-Agent: \x1b[2J"), 400),
    Row("C17", "a value with U+2028", _get(b"/inline", "User-Agent: a\u2028b".encode()), 400),
    Row("C02", "a certificate header with an underscore", _get(b"/inline", b"X_SSL_Client_S_DN: CN=admin"), 400),
    Row("C09", "too many fields", _get(b"/inline", *[b"X-%d: a" % n for n in range(64)]), 431),
    Row("C09", "a long field", _get(b"/inline", b"X: " + b"a" * 20_000), 431),
    Row("C09", "a long target", _get(b"/" + b"a" * 20_000), 431),
    # The request line
    Row("C05", "an absolute target", _get(b"http://gateway.test/inline"), 400),
    Row("C05", "an absolute target of another host", _get(b"https://evil.test/inline"), 400),
    Row("C08", "an authority target", b"CONNECT evil.test:443 HTTP/1.1\r\n" + H + b"\r\n", 405),
    Row("C08", "an asterisk", b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", 405),
    Row("C05", "an asterisk for GET", _get(b"*"), 400),
    Row("C05", "no leading slash", _get(b"inline"), 400),
    Row("C05", "only a query", _get(b"?a=b"), 400),
    Row("C05", "two blanks", b"GET  /inline HTTP/1.1\r\n" + H + b"\r\n", 400),
    Row("C05", "a blank in the target", _get(b"/in line"), 400),
    Row("C05", "a tab between the words", b"GET\t/inline\tHTTP/1.1\r\n" + H + b"\r\n", 400),
    Row("C05", "HTTP/0.9", b"GET /inline\r\n\r\n", 400),
    Row("C05", "HTTP/1.2", b"GET /inline HTTP/1.2\r\n" + H + b"\r\n", 400),
    Row("C05", "HTTP/2.0", b"GET /inline HTTP/2.0\r\n" + H + b"\r\n", 400),
    Row("C05", "HTTP/01.1", b"GET /inline HTTP/01.1\r\n" + H + b"\r\n", 400),
    Row("C05", "http in small letters", b"GET /inline http/1.1\r\n" + H + b"\r\n", 400),
    Row("C05", "another protocol that llhttp knows", b"GET /inline RTSP/1.0\r\n" + H + b"\r\n", 400),
    Row("C08", "TRACE", b"TRACE /inline HTTP/1.1\r\n" + H + b"\r\n", 405),
    Row("C08", "PROPFIND", b"PROPFIND /inline HTTP/1.1\r\n" + H + b"\r\n", 405),
    Row("C08", "an invented method", b"HELLO /inline HTTP/1.1\r\n" + H + b"\r\n", 405),
    Row("C08", "a method in small letters", b"get /inline HTTP/1.1\r\n" + H + b"\r\n", 400),
    Row("C08", "a method in mixed letters", b"Get /inline HTTP/1.1\r\n" + H + b"\r\n", 400),
    # Host
    Row("C05", "no Host", b"GET /inline HTTP/1.1\r\n\r\n", 400),
    Row("C05", "no Host in HTTP/1.0", b"GET /inline HTTP/1.0\r\n\r\n", 400),
    Row("C06", "two Hosts", _get(b"/inline", b"Host: evil.test"), 400),
    Row("C06", "two equal Hosts", _get(b"/inline", b"Host: gateway.test"), 400),
    Row("C06", "another Host", b"GET /inline HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421),
    Row("C06", "an empty Host", b"GET /inline HTTP/1.1\r\nHost:\r\n\r\n", 400),
    Row("C06", "a Host with a user", b"GET /inline HTTP/1.1\r\nHost: gateway.test@evil.test\r\n\r\n", 400),
    Row("C06", "a Host with a path", b"GET /inline HTTP/1.1\r\nHost: gateway.test/x\r\n\r\n", 400),
    Row("C06", "a list of Hosts", b"GET /inline HTTP/1.1\r\nHost: gateway.test, evil.test\r\n\r\n", 400),
    Row("C06", "a Host with a strange port", b"GET /inline HTTP/1.1\r\nHost: gateway.test:80a\r\n\r\n", 400),
    Row("C06", "a Host of 8 KB", b"GET /inline HTTP/1.1\r\nHost: " + b"a" * 8192 + b"\r\n\r\n", 400),
    # Paths
    Row("C07", "dot segments", _get(b"/app/../inline"), 400),
    Row("C07", "dot segments at the end", _get(b"/app/.."), 400),
    Row("C07", "a single dot", _get(b"/app/./inline"), 400),
    Row("C07", "a single dot at the end", _get(b"/inline/."), 400),
    Row("C07", "a dot before the query", _get(b"/inline/.?a=b"), 400),
    Row("C07", "encoded dots", _get(b"/app/%2e%2e/inline"), 400),
    Row("C07", "doubly encoded dots", _get(b"/app/%252e%252e/inline"), 400),
    Row("C07", "an encoded slash", _get(b"/app%2finline"), 400),
    Row("C07", "an encoded backslash", _get(b"/app%5cinline"), 400),
    Row("C07", "a backslash", _get(b"/app\\inline"), 400),
    Row("C07", "an encoded letter", _get(b"/inlin%65"), 400),
    Row("C07", "an encoded NUL", _get(b"/inline%00"), 400),
    Row("C07", "an encoded byte that is no character", _get(b"/inline%ff"), 400),
    Row("C07", "a raw byte above ASCII", _get(b"/inline\xff"), 400),
    Row("C07", "two slashes", _get(b"//inline"), 400),
    Row("C07", "two slashes inside", _get(b"/app//inline"), 400),
    Row("C07", "two slashes at the end", _get(b"/inline//"), 400),
    Row("C07", "a parameter", _get(b"/inline;x"), 400),
    Row("C07", "a fragment", _get(b"/inline#x"), 400),
    Row("C07", "a fragment in the query", _get(b"/inline?a#x"), 400),
    # Codings, expectations, other protocols
    Row("C12", "a compressed body", _post(b"Content-Encoding: gzip", b"Content-Length: 3", body=b"\x1f\x8b\x08"), 415),
    Row("C12", "Brotli", _post(b"Content-Encoding: br", b"Content-Length: 3", body=b"abc"), 415),
    Row("C16", "an expectation with a gigabyte", _post(b"Expect: 100-continue", b"Content-Length: 1073741824"), 413),
    Row("C16", "another expectation", _post(b"Expect: 200-ok", b"Content-Length: 3", body=b"abc"), 501),
    Row("C20", "h2c", _get(b"/inline", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"), 400),
    Row("C20", "websocket", _get(b"/inline", b"Connection: Upgrade", b"Upgrade: websocket"), 400),
    Row("C20", "Upgrade without Connection", _get(b"/inline", b"Upgrade: h2c"), 400),
    Row("C20", "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), 400),
    Row("C20", "PROXY version 1", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + _get(b"/inline"), 400),
    Row("C20", "PROXY version 2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12) + _get(b"/inline"), 400),
    Row("C20", "a TLS hello inside", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400),
    Row("C20", "an SSH greeting", b"SSH-2.0-OpenSSH_9.2\r\n", 400),
    Row("C20", "noise", bytes(range(256)), 400),
]  # fmt: skip

# The same in a form that is plain: answered, and so is what is pipelined behind it.
PLAIN = [
    Row("C04", "a body of the announced length", _post(b"Content-Length: 5", body=b"hello"), 200),
    Row("C04", "no body", _post(), 200),
    Row("C04", "a length of zero", _post(b"Content-Length: 0"), 200),
    Row("C04", "a length with leading zeros and blanks", _post(b"Content-Length:  0005 ", body=b"hello"), 200),
    Row("C04", "a body that looks like a request", _post(b"Content-Length: %d" % len(SECOND), body=SECOND), 200),
    Row("C04", "an empty value", _get(b"/inline", b"X:"), 200),
    Row("C05", "a query", _get(b"/inline?a=b&c=%2e%2e//"), 200),
    Row("C06", "Host with a port", b"GET /inline HTTP/1.1\r\nHost: gateway.test:8443\r\n\r\n", 200),
    Row("C06", "Host in capitals", b"GET /inline HTTP/1.1\r\nHOST: GATEWAY.TEST\r\n\r\n", 200),
    Row("C07", "dots in a name", _get(b"/app/...a.."), 404),
    Row("C07", "another path in capitals", _get(b"/INLINE"), 404),
    Row("C07", "a trailing slash", _get(b"/inline/"), 404),
    Row("C08", "an override of the method", _get(b"/inline", b"X-HTTP-Method-Override: DELETE"), 200),
    Row("C09", "a body as long as allowed", _post(b"Content-Length: 65536", body=bytes(65_536)), 200),
    Row("C02", "certificate headers", _get(b"/inline", b"X-SSL-Client-Verify: SUCCESS", b"X-Client-Cert: x"), 200),
    Row("C16", "an expectation that is met", _post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"), 200),
    Row("C20", "a TE field", _get(b"/inline", b"TE: trailers"), 200),
]
