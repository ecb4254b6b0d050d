"""The admin port: health checks, the status of the workers, the live page, and what extensions add.

It is for operators; keep it private. May import `http`, `extensions` and what is below them. Begin
with `handlers.make_admin_app`.
"""
