"""What a program in Python sees of its machine."""

import multiprocessing
import os
import pty
import subprocess
import sys

import markupsafe
import six


def square(number):
    return number * number


if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(square, range(5)))
    print(markupsafe.escape("<"), six.PY3, os.path.realpath("/proc/self/exe"), sys.executable)
    print(os.readlink("/proc/self/cwd"), len(os.listdir("/proc/self/task")) > 0)
    # A terminal, and what a program says to it.
    master, slave = pty.openpty()
    subprocess.run(["sh", "-c", "test -t 1 && echo terminal"], stdout=slave, check=True)
    print(os.read(master, 100), os.path.exists(os.ttyname(slave)))
    # A file without a name gets one.
    file = os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o600)
    os.link(f"/proc/self/fd/{file}", "named", src_dir_fd=0, follow_symlinks=True)
    os.chmod(f"/proc/self/fd/{file}", 0o640)
