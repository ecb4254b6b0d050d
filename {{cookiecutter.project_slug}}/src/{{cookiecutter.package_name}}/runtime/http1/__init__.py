"""The HTTP/1.1 server: from the bytes of a connection to Tornado's interface for requests.

May import `logs` and what is below it. Begin with `connection.Connection`, which is one client: it
reads heads (`head`) and bodies (`body`), passes them on, and an `exchange.Exchange` writes the
response. `server` accepts connections and drains them.

Tornado's own server reads through streams, futures and coroutines; this one is an
`asyncio.Protocol`, which takes about a third of the CPU time. The interface between server and
application is Tornado's public one, of `tornado.httputil`: `HTTPServerConnectionDelegate`,
`HTTPMessageDelegate` and `HTTPConnection`. So every handler of Tornado works.
"""
