"""Brings a generated project to another version of this template, or to other answers.

A project keeps the template's address, version and answers in `.tornado-template.toml`. Its `make
update` clones the template and runs ``make update`` there, so that this program is always the
newest one, whichever version a project has.

The way of an update: `plan.make_plan` generates the project twice, as it was and as it is to be,
and merges the difference into a copy of the project. `__main__` shows the plan, and then
`plan.Plan.apply` does the same in the project, on a branch of its own.

Read `__main__.py` first, then `plan.py`.
"""
