"""Serves 'hello' at SOCKET_PATH. `exits`: ends before; `waits`: never listens. Ends by itself after two minutes."""

import os
import signal
import socket
import sys

signal.alarm(120)
what = sys.argv[1] if len(sys.argv) > 1 else 'serves'
print(f'daemon {what}', flush=True)
if what == 'exits':
    print('no index', file=sys.stderr, flush=True)
    sys.exit(3)
if what == 'waits':
    signal.pause()
server = socket.socket(socket.AF_UNIX)
server.bind(os.environ['SOCKET_PATH'])
server.listen()
while True:
    client, _ = server.accept()
    with client:
        client.sendall(b'hello\n')
        client.shutdown(socket.SHUT_WR)
        # Bun takes an end that comes before its `connect` event for ECONNRESET: the client ends first.
        client.settimeout(1)
        try:
            client.recv(1)
        except OSError:
            pass
