#!/usr/bin/python3
# SPDX-License-Identifier: AGPL-3.0-only
"""Functions of at most 70 lines, files of at most 800: a ratchet.

size_exceptions.txt lists what may be longer, one "PATH NAME LINES" a line (NAME "-" for the file itself). A function that
has grown beyond its entry, shrunk below it, or gone, fails: so the list can only shrink, and each entry is meant.
"""
import re
import sys
from pathlib import Path

FUNCTION_MAX_LINES = 70
FILE_MAX_LINES = 800
NAME = re.compile(r"([A-Za-z_]\w*)\s*\(")


def functions(lines):
    """(name, lines) of each function: with the project's format only their bodies open with a brace of its own."""
    for begin, line in enumerate(lines):
        if line != "{":
            continue
        head = begin
        while head > 0 and lines[head - 1] and lines[head - 1][-1] not in ";}/" and lines[head - 1][0] != "#":
            head -= 1
        end = next((i for i in range(begin, len(lines)) if lines[i] == "}"), len(lines) - 1)
        name = NAME.search(" ".join(lines[head:begin]))
        yield (name[1] if name else f"line{begin + 1}"), end - head + 1


def too_long(root, paths):
    found = {}
    for path in paths:
        lines = path.read_text(encoding="utf-8").splitlines()
        relative = str(path.relative_to(root))
        if len(lines) > FILE_MAX_LINES:
            found[relative, "-"] = len(lines)
        if path.suffix in (".c", ".h"):
            for name, length in functions(lines):
                if length > FUNCTION_MAX_LINES:
                    found[relative, name] = length
    return found


def read_exceptions(path):
    entries = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            file, name, length = line.split()
            entries[file, name] = int(length)
    return entries


def complaints(root, paths):
    exceptions = read_exceptions(Path(__file__).with_name("size_exceptions.txt"))
    found = too_long(root, paths)
    for (file, name), length in sorted(found.items()):
        allowed = exceptions.get((file, name), FILE_MAX_LINES if name == "-" else FUNCTION_MAX_LINES)
        if length > allowed:
            yield f"{file}: {name} has {length} lines, more than {allowed}"
    for (file, name), allowed in sorted(exceptions.items()):
        length = found.get((file, name), 0)
        if length < allowed:
            yield f"size_exceptions.txt: {file} {name}: {allowed} is too generous, it has {length or 'the usual size'} now"


if __name__ == "__main__":
    top = Path(__file__).resolve().parents[2]
    files = [path for folder in ("agent", "drivers", "docker", "tests") for path in sorted((top / folder).rglob("*.[ch]"))]
    lines = list(complaints(top, files))
    print("\n".join(lines))
    sys.exit(1 if lines else 0)
