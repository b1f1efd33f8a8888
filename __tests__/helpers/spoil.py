"""Writes bytes that are no message into a connection of another process, from its side: python3 spoil.py PID PEER."""

import ctypes
import os
import socket
import stat
import struct
import sys

PIDFD_GETFD = 438

pid, peer = int(sys.argv[1]), int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
process = os.pidfd_open(pid)
for name in os.listdir(f"/proc/{pid}/fd"):
    fd = libc.syscall(PIDFD_GETFD, process, int(name), 0)
    if fd < 0 or not stat.S_ISSOCK(os.fstat(fd).st_mode):
        continue
    connection = socket.socket(fileno=fd)
    # A listener has the credentials of the process that made it.
    if connection.family != socket.AF_UNIX or connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        continue
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    if struct.unpack("3i", credentials)[0] == peer:
        connection.sendall(b"\xff" * 64)
        sys.exit(0)
sys.exit(f"{pid} has no connection of {peer}")
