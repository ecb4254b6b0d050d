"""Becomes an interactive shell in the terminal whose descriptor is the argument."""

import fcntl
import os
import signal
import sys
import termios

terminal = int(sys.argv[1])
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
os.dup2(terminal, 0)
os.close(terminal)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have said nohup
os.execvp("bash", ["bash", "--norc", "--noediting", "-i"])
