"""The Unix socket through which commands such as `status` speak to the running service.

May import `settings` and what is below it. Begin with `protocol`, which says where the socket is
and what is said there; `server` and `steering` are the service's side, `client` the command's.
"""
