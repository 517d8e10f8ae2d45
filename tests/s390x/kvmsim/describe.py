#!/usr/bin/env python3
"""Makes of a host description (JSON, see src/accel/hostfile/s390x.rs) the file that kvmsim reads.

usage: describe.py sim_host.json OUT
"""

import json
import struct
import sys

ALWAYS = [74, 79, 89, 101, 106, 109]
CAPS = {
    "KVM_CAP_S390_VECTOR_REGISTERS": [107],
    "KVM_CAP_S390_RI": [124],
    "KVM_CAP_S390_GS": [140],
    "KVM_CAP_S390_AIS": [141, 150],
    "KVM_CAP_S390_BPB": [152],
    "KVM_CAP_S390_PROTECTED": [180],
    "KVM_CAP_S390_DIAG318": [186],
    "KVM_CAP_S390_CPU_TOPOLOGY": [222],
}
OFFSETS = {
    "plo": 0, "ptff": 32, "kmac": 48, "kmc": 64, "km": 80, "kimd": 96, "klmd": 112, "pckmo": 128, "kmctr": 144,
    "kmf": 160, "kmo": 176, "pcc": 192, "ppno": 208, "kma": 224, "kdsa": 240, "sortl": 256, "dfltcc": 288, "pfcr": 320,
}


def main(source, target):
    with open(source) as file:
        host = json.load(file)
    machine, attributes = host["machine"], host.get("attributes", {})
    uv = attributes.get("uv_feat_guest")
    caps = ALWAYS + [number for name in host.get("capabilities", []) for number in CAPS[name]]
    flags = bool(attributes.get("cmma")) | bool(attributes.get("apie")) << 1 | (uv is not None) << 2
    facilities = bytearray(2048)
    for place, word in machine["fac_mask_words"].items():
        struct.pack_into(">Q", facilities, int(place) * 8, int(word, 16))
    feat = bytearray(128)
    for bit in host.get("machine_feat_bits", []):
        feat[bit // 8] |= 0x80 >> bit % 8
    subfunc = bytearray(2048)
    for name, digits in host.get("machine_subfunc", {}).items():
        block = bytes.fromhex(digits)
        subfunc[OFFSETS[name] : OFFSETS[name] + len(block)] = block
    with open(target, "wb") as file:
        file.write(b"KVMSIM1\n" + struct.pack(f">II{len(caps)}I", flags, len(caps), *caps))
        file.write(struct.pack(">QI4x", int(machine["cpuid"], 16), int(machine["ibc"], 16)))
        file.write(facilities + facilities + feat + subfunc + struct.pack(">Q", uv or 0))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
