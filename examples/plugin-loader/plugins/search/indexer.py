"""Reads the text files of the folder, once for each line on stdin, and writes them to stdout.

The answer is one JSON object on one line: {"path": ["line", "line", …], …}. Ends with its stdin.
"""

import json
import pathlib
import sys

SUFFIXES = {".json", ".md", ".py"}
LARGEST = 1 << 20


def scan(folder):
    files = {}
    for path in folder.rglob("*"):
        if path.suffix in SUFFIXES and path.is_file() and path.stat().st_size <= LARGEST:
            files[str(path.relative_to(folder))] = path.read_text("utf-8", "replace").splitlines()
    return files


for _ in sys.stdin:
    print(json.dumps(scan(pathlib.Path.cwd())), flush=True)
