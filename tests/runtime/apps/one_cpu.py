"""Prints how many CPUs are usable once the process is bound to one."""

import os

from runtime.cpus import usable_cpus

os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
print(usable_cpus())
