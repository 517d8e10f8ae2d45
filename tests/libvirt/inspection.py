"""What virsh shows: capabilities, the domain, its processors, statistics, monitor and events."""

import itertools
import re
import subprocess

from harness.checks import Skip, check, expect, expect_equal
from harness.emulator import CPU

from .domain import Domain, booted
from .host import Events, virsh

HOST = None


@check("domcapabilities: q35 on KVM, and not one error in libvirtd's log")
def domcapabilities():
    text = virsh("domcapabilities", "--virttype", "kvm", "--arch", "x86_64", "--machine", "q35")
    expect("<domain>kvm</domain>" in text, "domain type kvm")
    expect(re.search(r"<machine>pc-q35-\d+\.\d+</machine>", text), "the alias q35 leads to a versioned machine")
    for mode in ("host-passthrough", "host-model"):
        expect(f"<mode name='{mode}' supported='yes'>" in text, f"CPU mode {mode}")
    expect_equal(HOST.log_errors(), [], "errors in the log")


@check("capabilities: the emulator is listed with its machines")
def capabilities():
    text = virsh("capabilities")
    expect("<emulator>/usr/bin/qemu-system-x86_64</emulator>" in text, "the emulator")
    expect("<domain type='kvm'" in text, "domain type kvm")
    expect(re.search(r"<machine canonical='pc-q35-\d+\.\d+'[^>]*>q35</machine>", text), "machine q35 is an alias")


@check("version: virsh says which hypervisor runs")
def version():
    expect(re.search(r"Running hypervisor: QEMU \d+\.\d+\.\d+", virsh("version")), "running hypervisor")


@check("define, start, list, dominfo, domstate: a guest runs")
def start():
    with Domain(start=False) as domain:
        expect(re.search(r"machine='pc-q35-\d+\.\d+'", virsh("dumpxml", domain.name)), "the machine is versioned")
        domain.expect_state("shut off (unknown)")
        domain.start()
        domain.expect_state("running (booted)")
        domain.talk("hello from the guest")
        expect(re.search(rf"\d+ +{domain.name} +running", virsh("list")), "virsh list shows it")
        info = dict(re.split(r": +", line, maxsplit=1) for line in virsh("dominfo", domain.name).splitlines())
        expect_equal((info["State"], info["CPU(s)"], info["Max memory"]), ("running", "1", "131072 KiB"), "dominfo")
        expect(re.match(r"[0-9.]+s", info["CPU time"]), f"CPU time {info['CPU time']}")


@check("vcpuinfo, vcpucount, vcpupin, emulatorpin: processors are real threads")
def processors():
    with booted(VCPUS="2") as domain:
        text = virsh("vcpuinfo", domain.name)
        expect_equal(len(re.findall(r"State: +running", text)), 2, "running vCPUs")
        # virsh leaves the line out for a processor that has used less than a clock tick, as one that was never started.
        expect(re.search(r"VCPU: +0\n(?:.*\n)*?CPU time: +[0-9.]+s", text), "CPU time of the processor that boots")
        expect_equal(virsh("vcpucount", domain.name, "--live", "--current"), "2", "vcpucount")
        virsh("vcpupin", domain.name, "1", "0")
        affinity = re.findall(r"CPU Affinity: +([y-]+)", virsh("vcpuinfo", domain.name))[1]
        expect(affinity.startswith("y") and set(affinity[1:]) <= {"-"}, f"affinity of vCPU 1: {affinity}")
        virsh("emulatorpin", domain.name, "0")


@check("domstats: state, processor, vCPU and balloon groups")
def domstats():
    with booted() as domain:
        stats = dict(line.strip().split("=", 1) for line in virsh("domstats", domain.name).splitlines() if "=" in line)
        wanted = {"state.state": "1", "vcpu.current": "1", "vcpu.maximum": "1", "vcpu.0.state": "1"}
        expect_equal({key: stats.get(key) for key in wanted}, wanted, "statistics")
        expect(int(stats["cpu.time"]) > 0, "CPU time")
        expect("balloon.rss" in stats, "resident memory")


@check("schedinfo: the cgroup's weights can be read and set")
def schedinfo():
    with booted() as domain:
        done = subprocess.run(["virsh", "-q", "schedinfo", domain.name], capture_output=True, text=True, timeout=60)
        if "cgroup" in done.stderr:
            raise Skip(done.stderr.strip())
        expect(re.search(r"cpu_shares +: \d+", done.stdout), f"schedinfo {done.stdout} {done.stderr}")
        virsh("schedinfo", domain.name, "--live", "cpu_shares=512")
        expect(re.search(r"cpu_shares +: 512", virsh("schedinfo", domain.name)), "the new weight is read back")


@check("ttyconsole, console: a pty with real bytes both ways")
def console():
    with booted() as domain:
        expect(re.fullmatch(r"/dev/pts/\d+", virsh("ttyconsole", domain.name)), "the path of the pty")
        expect("from libvirt" in virsh("dumpxml", domain.name), "the kernel command line")
        for number in range(20):
            domain.talk(f"line {number} of twenty " + "." * 60)
        domain.close_console()
        domain.talk("a second console session")


@check("qemu-monitor-command: QMP and --hmp")
def monitor_command():
    with booted() as domain:
        reply = virsh("qemu-monitor-command", domain.name, '{"execute":"query-status"}')
        expect('"running":true' in reply and '"status":"running"' in reply, f"reply {reply}")
        reply = virsh("qemu-monitor-command", domain.name, '{"execute":"no-such-command"}')
        expect("CommandNotFound" in reply, f"reply {reply}")
        expect_equal(virsh("qemu-monitor-command", domain.name, "--hmp", "info status"), "VM status: running", "HMP")
        expect("unknown command" in virsh("qemu-monitor-command", domain.name, "--hmp", "frobnicate"), "unknown HMP command")


@check("event --all: the events of a domain's life, in order")
def events():
    with Domain(start=False) as domain:
        watch = Events(domain.name)
        domain.start()
        domain.open_console()
        domain.talk("up")
        virsh("suspend", domain.name)
        virsh("resume", domain.name)
        domain.console.type("r")
        domain.console.expect("READY")
        virsh("destroy", domain.name)
        text = watch.stop("Stopped Destroyed")
        kinds = [re.sub(r"event '([^']+)' for domain '?[^:' ]+'?:? ?", r"\1 ", line).strip() for line in text.splitlines()]
        # Two threads of libvirtd tell of a start: one that heard of RESUME, one that has finished the start.
        begin = ["lifecycle Resumed Unpaused", "lifecycle Started Booted"]
        then = ["lifecycle Suspended Paused", "lifecycle Resumed Unpaused", "reboot", "lifecycle Stopped Destroyed"]
        seen = [kind for kind, _ in itertools.groupby(kind for kind in kinds if kind in begin + then)]
        expect_equal(sorted(seen[:2]) + seen[2:], begin + then, f"events {kinds}")


@check("inject-nmi: the guest receives it")
def inject_nmi():
    with booted() as domain:
        virsh("inject-nmi", domain.name)
        domain.console.type("n")
        domain.console.expect("NMIS 1")


@check("send-key: the guest reads the keys of every codeset that is named, also when several are held")
def send_key():
    with booted() as domain:
        for words, codes in [
            (["KEY_A"], "1e 9e"),
            (["KEY_LEFTCTRL", "KEY_LEFTALT", "KEY_DELETE"], "1d 38 e0 53 e0 d3 b8 9d"),
            (["--codeset", "usb", "0x04", "--holdtime", "50"], "1e 9e"),
            (["--codeset", "xt", "0x1e", "0x30"], "1e 30 b0 9e"),
        ]:
            virsh("send-key", domain.name, *words)
            domain.console.type(f"h {len(codes.split())}")
            domain.console.expect(f"KEYS {codes}")


@check("cpu: the guest sees the host's processor")
def guest_cpu():
    if CPU != "host":
        raise Skip(f"the domain runs with CPU model {CPU}")
    with booted() as domain:
        domain.console.type("u")
        text = domain.console.expect("CPU-END")
        vendor = re.search(r"CPUID 00000000 00000000: \w+ (\w+) (\w+) (\w+)", text).groups()
        name = b"".join(int(vendor[i], 16).to_bytes(4, "little") for i in (0, 2, 1)).decode()
        expect(f"vendor_id\t: {name}" in open("/proc/cpuinfo").read(), f"vendor {name}")
        expect("CPUID 40000000 00000000: " in text and "4b4d564b" in text, "KVM's signature")
