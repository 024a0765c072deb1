#!/usr/bin/python3
# SPDX-License-Identifier: AGPL-3.0-only
"""Static checks of the whole tree, in parallel: formatting, clang-tidy, headers that compile alone, shell and Python scripts, sizes.

usage: lint.py BUILD_DIRECTORY COUNTS_FILE [--quick]

BUILD_DIRECTORY is a configured build (for compile_commands.json). Each file and check counts as one; failures are shown. Passes
of the slow checks are remembered in build/lint by everything that they depend on, so a second run is quick.
COUNTS_FILE gets "PASSED FAILED". --quick leaves clang-tidy out.
"""
import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import size

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "lint"
C_FOLDERS = ("agent", "drivers", "docker", "tests")
TIDY_FOLDERS = ("agent", "drivers", "docker")


def run(*command, cwd=ROOT):
    """None when it succeeds, else what it said."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False)
    return None if done.returncode == 0 else done.stdout or f"{command[0]}: status {done.returncode}"


def remembered(key, check):
    """check(), unless it passed before with the same key."""
    mark = CACHE / hashlib.sha256(key.encode()).hexdigest()
    if mark.exists():
        return None
    complaint = check()
    if complaint is None:
        mark.touch()
    return complaint


def c_files(suffix, folders=C_FOLDERS):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*" + suffix))]


def scripts(interpreter, suffixes=()):
    """Files of git's, by suffix or by first line."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, stdout=subprocess.PIPE,
                            check=True).stdout.decode().split("\0")
    for name in sorted(filter(None, listed)):
        path = ROOT / name
        if not path.is_file():
            continue
        with open(path, "rb") as file:
            first = file.readline(200)
        if path.suffix in suffixes or (first.startswith(b"#!") and interpreter in first):
            yield path


def tree_hash():
    digest = hashlib.sha256((ROOT / ".clang-tidy").read_bytes())
    for header in c_files(".h"):
        digest.update(str(header).encode() + b"\0" + header.read_bytes())
    return digest.hexdigest()


def check_format(path):
    return run("clang-format", "--dry-run", "-Werror", path)


def check_python(path):
    try:
        compile(path.read_bytes(), str(path), "exec")
    except (SyntaxError, ValueError) as error:
        return f"{path}: {error}"
    return None


def checks(build, quick):
    """(name, function) of every check."""
    commands = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    headers = tree_hash()
    for path in c_files(".c") + c_files(".h"):
        yield f"format {path.relative_to(ROOT)}", lambda path=path: check_format(path)
    for path in c_files(".h"):
        key = f"header {path} {headers}"
        compile_alone = ("gcc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", "agent",
                         "-I", "drivers", "-I", "tests", "-I", "/usr/include/postgresql", "-include", path, "-x", "c", "/dev/null")
        yield (f"header {path.relative_to(ROOT)}",
               lambda key=key, command=compile_alone: remembered(key, lambda: run(*command)))
    for entry in [] if quick else commands:
        path = Path(entry["file"])
        if path.suffix == ".c" and any(path.is_relative_to(ROOT / folder) for folder in TIDY_FOLDERS):
            key = f"tidy {entry.get('command')} {path.read_bytes()} {headers}"
            yield (f"tidy {path.relative_to(ROOT)}", lambda key=key, path=path: remembered(
                key, lambda: run("clang-tidy", "--quiet", "-p", build, path)))
    for path in scripts(b"sh"):  # with what they source
        yield f"shell {path.relative_to(ROOT)}", lambda path=path: run("shellcheck", "-x", "-a", path)
    for path in scripts(b"python", (".py",)):
        yield f"python {path.relative_to(ROOT)}", lambda path=path: check_python(path)
    yield "sizes", lambda: "\n".join(size.complaints(ROOT, c_files(".c") + c_files(".h"))) or None


def main():
    build, counts = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    CACHE.mkdir(parents=True, exist_ok=True)
    passed = failed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [(name, pool.submit(check)) for name, check in checks(build, "--quick" in sys.argv[3:])]
        for name, job in jobs:
            complaint = job.result()
            if complaint is None:
                passed += 1
            else:
                failed += 1
                print(f"FAILED {name}\n{complaint.rstrip()[:3000]}\n")
    counts.write_text(f"{passed} {failed}\n", encoding="utf-8")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
