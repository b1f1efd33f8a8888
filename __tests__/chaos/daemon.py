"""A daemon with one behaviour: obeys, ignores-sigterm, crashes, has-children or floods-output. Ends after two minutes."""

import os
import signal
import socket
import sys
import threading
import time

behaviour = sys.argv[1]


def limit():
    """SIGALRM ends this process after two minutes, also if the run failed."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(120)


def leave():
    """A socket that the manager holds is not removed."""
    if "LISTEN_FDS" not in os.environ:
        try:
            os.unlink(os.environ["SOCKET_PATH"])
        except OSError:
            pass
    os._exit(0)


limit()
if behaviour == "ignores-sigterm":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: leave())

if behaviour == "has-children":
    # A child in the group, and a detached one: forked twice, in a POSIX session of its own.
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

if "LISTEN_FDS" in os.environ:
    listener = socket.socket(fileno=3)
else:
    path = os.environ["SOCKET_PATH"]
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)

if "NOTIFY_SOCKET" in os.environ:
    def notify(text):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(text, os.environ["NOTIFY_SOCKET"])
            except OSError:
                # Its owner or everybody who reads was killed.
                pass

    def watchdog():
        while True:
            notify(b"WATCHDOG=1")
            time.sleep(0.1)
    notify(b"READY=1")
    threading.Thread(target=watchdog, daemon=True).start()
if behaviour == "crashes":
    threading.Timer(0.3, lambda: os._exit(7)).start()
if behaviour == "floods-output":
    def flood():
        number = 0
        # Not the pid: a long run uses pids again.
        process = time.time_ns()
        while True:
            os.write(1, b"%d %d %s\n" % (process, number, b"x" * 80))
            number += 1
            time.sleep(0.0005)
    threading.Thread(target=flood, daemon=True).start()

while True:
    connection, _ = listener.accept()
    connection.close()
