"""One serving process: its sockets, its start, its drain, its stop, and what systemd is told.

May import `admin`, `control` and what is below them. Begin with `lifecycle.Lifecycle.run`; `single`
is the service with one process, and every worker has a `Lifecycle` too. `restarter` is for
development.
"""
