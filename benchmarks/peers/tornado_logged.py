"""Tornado's hello world with its access log, as `tornado.options` switches it on."""

import sys

import bare_tornado
import tornado.log
import tornado.options

if __name__ == "__main__":
    # What the log is written to differs from the default, which is standard error.
    sys.stderr = sys.stdout
    tornado.options.parse_command_line()
    bare_tornado.main()
