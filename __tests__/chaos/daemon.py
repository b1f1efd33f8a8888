"""A daemon with a character: willing, stubborn, crashing, family or flooding. Ends by itself after two minutes."""

import os
import signal
import socket
import sys
import threading
import time

character = sys.argv[1]


def limit():
    """Nothing of a test outlives it for long, whatever went wrong."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(120)


def leave():
    try:
        os.unlink(os.environ["SOCKET_PATH"])
    except OSError:
        pass
    os._exit(0)


limit()
if character == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: leave())

if character == "family":
    # A child in the group, and one that fled: another session, and no parent.
    if os.fork() == 0:
        limit()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        limit()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)

path = os.environ["SOCKET_PATH"]
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(16)

if character == "crashing":
    threading.Timer(0.3, lambda: os._exit(7)).start()
if character == "flooding":
    def flood():
        while True:
            os.write(1, b"x" * 99 + b"\n")
            time.sleep(0.0005)
    threading.Thread(target=flood, daemon=True).start()

while True:
    connection, _ = listener.accept()
    connection.close()
