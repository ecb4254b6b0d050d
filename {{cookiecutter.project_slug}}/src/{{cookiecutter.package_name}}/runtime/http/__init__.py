"""HTTP: requests, routing, handlers, errors, bodies and WebSockets.

May import `http1` and what is below it. Begin with `application.Application.dispatch`, through
which every request passes; the server of `http1` is below it, `handler` above it.
"""
