"""The files the tested code sees: Python and the system's libraries, read-only, and a small folder.

Home, /etc, /proc, /tmp and everything else are not there.
"""

import os

import kernel

__all__ = ["WORK", "build"]

WORK = "/work"
_LIBRARIES = ("/usr", "/lib", "/lib64", "/lib32", "/nix/store")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


def build(root: str, python: list[str], disk: int) -> None:
    """Lay out a file system at `root`, in this process's own mount namespace.

    Args:
        root: an empty folder.
        python: folders of the interpreter and its library.
        disk: bytes that fit into `WORK`, the one place that can be written.
    """
    kernel.mount("none", "/", None, kernel.PRIVATE)
    kernel.mount("tmpfs", root, "tmpfs", kernel.NO_SUID, "size=1m,mode=0755")
    laid: list[str] = []
    for place in (*_LIBRARIES, *python):
        if any(place == each or place.startswith(f"{each}/") for each in laid):
            continue
        if os.path.islink(place):  # /lib -> usr/lib
            os.symlink(os.readlink(place), root + place)
        elif os.path.isdir(place):
            os.makedirs(root + place, exist_ok=True)
            kernel.mount(place, root + place, None, kernel.BIND)
            laid.append(place)
    os.mkdir(f"{root}/dev")
    for place in _DEVICES:
        os.close(os.open(root + place, os.O_CREAT | os.O_WRONLY))
        kernel.mount(place, root + place, None, kernel.BIND)
    os.mkdir(root + WORK)
    kernel.read_only(root)
    options = f"size={disk},nr_inodes=4096,mode=0777"
    kernel.mount("tmpfs", root + WORK, "tmpfs", kernel.NO_SUID | kernel.NO_DEVICES, options)
