"""What goes on in the service, in memory that its processes share: requests, events, history.

Each worker counts its requests, and sends its events to the supervisor, which keeps the last ones.
The admin process reads all of it, and records the history. May import `settings` and what is below
it. Begin with `monitor.Monitor`.
"""
