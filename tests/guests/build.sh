#!/bin/sh
# Builds the test guests from source: build.sh DIRECTORY writes DIRECTORY/guest.elf (an ELF64 file
# holding 32-bit PVH code) and DIRECTORY/beat.bin (firmware of 64 KiB). Needs gcc and binutils for x86, no 32-bit libraries.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh DIRECTORY}
mkdir -p "$out"
work=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
for part in guest net; do
    ${CC:-cc} -m32 -march=i486 -mgeneral-regs-only -O2 -std=gnu11 -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-pie \
        -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -S -o "$work/$part.s" "$here/$part.c"
    { echo .code32; cat "$work/$part.s"; } | as --64 -o "$work/$part.o" -
done
${CC:-cc} -c -o "$work/entry.o" "$here/entry.S"
ld -m elf_x86_64 -T "$here/guest.ld" -z max-page-size=4096 -z noexecstack --no-warn-rwx-segments \
    -o "$work/guest.elf" "$work/entry.o" "$work/guest.o" "$work/net.o"
mv "$work/guest.elf" "$out/guest.elf"
as --32 -o "$work/beat.o" "$here/beat.S"
ld -m elf_i386 -Ttext=0xf0000 --oformat binary -o "$work/beat.bin" "$work/beat.o"
mv "$work/beat.bin" "$out/beat.bin"
