"""freeze.py PID: stops a process by ptrace(2), which SIGCONT does not undo. Prints `frozen`, and lets the process go on at the end of its
stdin."""
import ctypes
import os
import select
import sys

ATTACH, DETACH = 16, 17
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
if libc.ptrace(ATTACH, pid, None, None) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(pid, 0)
print("frozen", flush=True)
# A tracer reaps the process it traces before the parent can.
while not select.select([sys.stdin], [], [], 0.01)[0]:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended and not os.WIFSTOPPED(status):
        sys.exit()
libc.ptrace(DETACH, pid, None, None)
