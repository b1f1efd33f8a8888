"""on-terminal.py ROWS COLUMNS PROGRAM [ARGUMENT...]: runs a program on a terminal of its own, and copies what it writes to stdout.

Commands on stdin, one a line: `type TEXT` (JSON), `size ROWS COLUMNS`, `signal NUMBER`. At the end a line of JSON on stderr: the
exit code (negative: a signal), and whether the terminal has the settings that it had before. Ends by itself after a minute.
"""

import fcntl, json, os, pty, select, signal, struct, sys, termios, time

rows, columns, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]


def resize(rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


go, went = os.pipe()
pid, terminal = pty.fork()
if pid == 0:
    os.close(went)
    os.read(go, 1)  # The program must not start before its terminal has a size.
    os.execvp(program[0], program)
os.close(go)
resize(rows, columns)
before = termios.tcgetattr(terminal)
os.close(went)


def obey(line):
    command, _, rest = line.partition(" ")
    if command == "type":
        os.write(terminal, json.loads(rest).encode())
    elif command == "size":
        resize(*map(int, rest.split()))
    elif command == "signal":
        os.kill(pid, int(rest))


deadline = time.monotonic() + 60
after = before
sources, pending = [terminal, 0], b""
while time.monotonic() < deadline:
    ready, _, _ = select.select(sources, [], [], 1)
    if terminal in ready:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # EIO: the last process has closed the terminal.
            data = b""
        if not data:
            break
        after = termios.tcgetattr(terminal)
        os.write(1, data)
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            sources.remove(0)
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            obey(line.decode())
else:
    os.kill(pid, signal.SIGKILL)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps({"code": code, "settingsKept": after == before}), file=sys.stderr)
