"""Full-text search over the files of this folder.

One JSON object per line, over the socket at SOCKET_PATH:

    {"query": "graceful shutdown"}  ->  {"hits": [{"file": "…", "line": 3, "text": "…"}, …]}
    {"scan": true}                  ->  {"files": 5}        reads the folder again
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

WORD = re.compile(r"\w+")
MOST_HITS = 5


class Index:
    """The lines of each word. Built once and never changed, so that threads can share it."""

    def __init__(self, files):
        self.files = len(files)
        self.lines = [
            {"file": file, "line": number, "text": text.strip()}
            for file, texts in sorted(files.items())
            for number, text in enumerate(texts, 1)
        ]
        self.places = {}
        for place, line in enumerate(self.lines):
            for word in WORD.findall(line["text"].lower()):
                self.places.setdefault(word, set()).add(place)

    def find(self, query):
        """The lines with every word of the query."""
        words = WORD.findall(query.lower())
        if not words:
            return []
        places = set.intersection(*(self.places.get(word, set()) for word in words))
        return [self.lines[place] for place in sorted(places)[:MOST_HITS]]


class Indexer:
    """The process that reads the disk, so that a slow disk delays no answer."""

    def __init__(self):
        self.lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, "indexer.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )

    def scan(self):
        with self.lock:
            self.process.stdin.write("scan\n")
            self.process.stdin.flush()
            return Index(json.loads(self.process.stdout.readline()))


class Server:
    def __init__(self, path, indexer):
        self.path = path
        self.indexer = indexer
        self.index = indexer.scan()
        # A killed daemon leaves its socket file. The manager has made sure that no process listens there.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.inode = os.stat(path).st_ino
        self.listener.listen(128)

    def accept_connections(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        # A health check connects and closes without a line.
        with contextlib.suppress(ConnectionError), connection, connection.makefile("rw", encoding="utf-8") as stream:
            for line in stream:
                try:
                    answer = self.answer(json.loads(line))
                except Exception as error:  # every error is the answer to its request
                    answer = {"error": f"{type(error).__name__}: {error}"}
                stream.write(json.dumps(answer) + "\n")
                stream.flush()

    def answer(self, request):
        if "query" in request:
            return {"hits": self.index.find(request["query"])}
        if "scan" in request:
            self.index = self.indexer.scan()
            return {"files": self.index.files}
        return {"error": "neither a query nor a scan"}

    def close(self):
        # A later daemon may have its own socket at this path.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self.path).st_ino == self.inode:
                os.unlink(self.path)


def main():
    # The indexer is started first: it would inherit the blocked signals.
    indexer = Indexer()
    # sigwait instead of a handler, because a handler would interrupt a request.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)

    server = Server(os.environ["SOCKET_PATH"], indexer)
    threading.Thread(target=server.accept_connections, daemon=True).start()
    print(f"{server.index.files} files, {len(server.index.places)} words")

    received = signal.sigwait(ends)
    print(f"ending on {signal.Signals(received).name}")
    server.close()
    indexer.process.terminate()
    indexer.process.wait()


if __name__ == "__main__":
    main()
