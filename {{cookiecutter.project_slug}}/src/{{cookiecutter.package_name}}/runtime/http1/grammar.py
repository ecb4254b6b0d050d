"""The grammar of what several modules parse: a difference could smuggle requests."""

# Source: RFC 9110, 5. Values are Latin-1; no control characters but the tab. Nothing matches in
# two ways, so matching takes linear time.
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105 - the name in the RFC
VALUE = r"[\t\x20-\x7e\x80-\xff]*+"
# RFC 3986, and a few that browsers send.
PATH_CHARACTER = r"(?:[!$&-;=@-Z\[\]_a-z~|^{}]|%[0-9A-Fa-f]{2})"
