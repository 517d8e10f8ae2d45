"""Firmware images made of port accesses, for `-bios`: what a guest does without a kernel, on any emulator of a PC."""

import struct

SIZE = 64 * 1024
# The program starts with interrupts off and stands still at its end.
START, HALT = b"\xfa\xfc", b"\xfa\xf4\xeb\xfc"


def out(port, value, width=1):
    """Writes `value` of 1, 2 or 4 bytes to a port."""
    load = b"\xba" + struct.pack("<H", port)
    return load + {
        1: b"\xb0" + struct.pack("<B", value & 0xFF) + b"\xee",
        2: b"\xb8" + struct.pack("<H", value & 0xFFFF) + b"\xef",
        4: b"\x66\xb8" + struct.pack("<I", value) + b"\x66\xef",
    }[width]


def repeat(body):
    """Does `body` for ever."""
    return body + b"\xe9" + struct.pack("<h", -(len(body) + 3))


def wait_for_character():
    """Waits until the first serial port has a character, and takes it."""
    return b"\xba\xfd\x03" + b"\xec\xa8\x01\x74\xfb" + b"\xba\xf8\x03" + b"\xec"


def sleep(kind):
    """Enters an ACPI sleep state of q35 by its type: 0 is S5, 1 is S3, 2 is S4."""
    pmbase = out(0xCF8, 0x8000F840, 4) + out(0xCFC, 0x601, 4) + out(0xCF8, 0x8000F844, 4) + out(0xCFC, 0x80)
    return pmbase + out(0x604, 0x2000 | kind << 10, 2)


def write(path, *steps):
    """Writes an image that takes the steps and then stands still; returns the path."""
    program = START + b"".join(steps) + HALT
    image = bytearray(b"\xff" * SIZE)
    image[: len(program)] = program
    image[0xFFE0:0xFFE6] = bytes(6)
    image[0xFFF0:0xFFF5] = b"\xea\x00\x00\x00\xf0"
    with open(path, "wb") as file:
        file.write(image)
    return path
