"""The log: what a record looks like, and how it is written without ever blocking the service.

May import `monitor` and what is below it. Begin with `formatters.configure`; `writer` is for every
process with an event loop, `shared` for several processes with one log, `direct` for the access
line.
"""
