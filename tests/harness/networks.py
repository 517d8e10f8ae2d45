"""A network of the check's own: a namespace, tap interfaces, a bridge, and raw frames."""

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct

from .checks import Failure, Skip

CLONE_NEWNET = 0x40000000
TUNSETIFF, TUNSETVNETHDRSZ = 0x400454CA, 0x400454D8
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x2, 0x1000, 0x4000, 0x100
SIOCGIFINDEX, SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCBRADDBR, SIOCBRADDIF = 0x8933, 0x8913, 0x8914, 0x89A0, 0x89A2
IFF_UP = 1
EXPERIMENTAL = 0x88B5


@contextlib.contextmanager
def private_network():
    """What is started in here has an empty network of its own, with nothing in it but `lo`."""
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise Skip("a private network needs root and /dev/net/tun")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET):
            raise Skip(f"a private network: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            if libc.setns(before, CLONE_NEWNET):
                raise Failure(f"the way back into the network: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(before)


def tap(name, header=False, queues=1):
    """Makes an interface, and opens a file for each of its queues."""
    flags = IFF_TAP | IFF_NO_PI | (IFF_VNET_HDR if header else 0) | (IFF_MULTI_QUEUE if queues > 1 else 0)
    files = []
    for _ in range(queues):
        file = open("/dev/net/tun", "r+b", buffering=0)
        fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        files.append(file)
    set_up(name)
    return files


def set_up(name):
    """Switches an interface on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.unpack_from("H", fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16s24x", name.encode())), 16)[0]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | IFF_UP))


def bridge(name, *ports):
    """Joins interfaces."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, SIOCBRADDBR, name.encode() + b"\0")
        except OSError as error:
            raise Skip(f"a bridge: {error.strerror}") from None
        for port in ports:
            index = fcntl.ioctl(control, SIOCGIFINDEX, struct.pack("16s24x", port.encode()))
            fcntl.ioctl(control, SIOCBRADDIF, struct.pack("16si20x", name.encode(), struct.unpack_from("i", index, 16)[0]))
    set_up(name)


def frames_of(name, kind=EXPERIMENTAL):
    """A socket for the frames of an interface that are of one Ethernet type."""
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
    frames.bind((name, kind))
    return frames


def receive(file, timeout=20):
    """The next frame."""
    if not select.select([file], [], [], timeout)[0]:
        raise Failure(f"no frame in {timeout} s")
    return os.read(file.fileno(), 1 << 17)


def frame(to, source, data, kind=EXPERIMENTAL):
    """A frame between two addresses."""
    return bytes.fromhex(to.replace(":", "")) + bytes.fromhex(source.replace(":", "")) + struct.pack(">H", kind) + data
