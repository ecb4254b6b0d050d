"""The grammar of fields, for heads and trailers alike: a difference could smuggle requests."""

# Source: RFC 9110, 5. Values are Latin-1; no control characters but the tab. Nothing matches in
# two ways, so matching takes linear time.
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105 - the name in the RFC
VALUE = r"[\t\x20-\x7e\x80-\xff]*+"
