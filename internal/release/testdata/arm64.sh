#!/bin/sh
# arm64.sh FOLDER LIBRARIES PROGRAM [ARGUMENT...]: runs a program for linux/arm64, and whatever this starts, by qemu-aarch64 with the
# LIBRARIES of that machine. The kernel is told in a namespace of its own (Linux 6.7 and later), so that nothing else notices and no one
# needs to be root. FOLDER is for files; /proc/cpuinfo becomes one of an arm64 machine, which ONNX Runtime reads as it is loaded.
set -eu
folder=$1 libraries=$2
shift 2
if [ -z "${ARM64_WITHIN:-}" ]; then
  ARM64_WITHIN=1 exec unshare --user --map-root-user --mount sh "$0" "$folder" "$libraries" "$@"
fi
unset ARM64_WITHIN
mkdir -p "$folder/root/proc"
[ -e "$folder/root/lib" ] || ln -s "$libraries" "$folder/root/lib"
for i in $(seq 0 $(($(nproc) - 1))); do
  printf 'processor\t: %d\nFeatures\t: fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimddp\nCPU implementer\t: 0x41\n' "$i"
  printf 'CPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\n'
done > "$folder/root/proc/cpuinfo"
printf '#!/bin/sh\nQEMU_LD_PREFIX=%s exec %s "$@"\n' "$folder/root" "$(command -v qemu-aarch64)" > "$folder/interpreter"
chmod +x "$folder/interpreter"
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":lapidary-arm64:M::$magic:$mask:$folder/interpreter:" > /proc/sys/fs/binfmt_misc/register
exec "$@"
