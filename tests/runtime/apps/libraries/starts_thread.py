"""A library that starts a thread when it is imported."""

import threading

end = threading.Event()
thread = threading.Thread(target=end.wait, name="busy")
thread.start()
