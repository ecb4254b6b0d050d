"""Log messages that several tests compare."""

LISTENING = "listening on"
DRAINING = "draining, requests in flight: {}"
ABORTED = "{reason}: aborted {requests} requests, {websockets} WebSockets and {tasks} tasks"
STOPPED = "stopped"
CANNOT_LISTEN = "cannot listen on {address} port {port}: Address already in use"
CANNOT_OPEN_LOG = "cannot open the log file: "
CANNOT_CREATE_APP = "cannot create the application: "
