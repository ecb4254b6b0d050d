"""HTTP: connections, requests, routing, handlers, errors, bodies and WebSockets.

May import `settings` and `logs`. Begin with `application.Application.dispatch`, through which every
request passes; `server` is below it, `handler` above it.
"""
