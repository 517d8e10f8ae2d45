"""Our qemu-system-s390x, built for s390x, on a simulated /dev/kvm: probing, guests with CPU models, refusals."""

import subprocess

from harness.checks import check, expect, expect_equal

from . import simulation
from .monitor import Monitor, refusal

# More than one model of each kind of host: some can run it, some cannot.
MODELS = ["z13", "2964-ga1,te=off", "gen15a-base", "gen16a", "gen17a", "host", "z99"]
MACHINES = ["7.2", "8.0", "8.1", "8.2", "9.0", "9.1", "9.2", "10.0", "10.1", "10.2"]


def emulator(host, log, *arguments):
    """The words that start the emulator on a host."""
    return [*host.command(simulation.built("REMUDA_S390X_BINARY"), log), *arguments]


def on_every_host(what):
    """Registers a check for each recorded host."""

    def register(function):
        for host in simulation.ALL:
            check(f"simulated host {host.name}: {what}")(lambda host=host: function(host))
        return function

    return register


@on_every_host("the crate's own calls are what the kernel wants")
def library(host):
    log = simulation.FOLDER / f"{host.name}.test.log"
    log.write_text("")
    # One thread: the tests share the log.
    test = host.command(simulation.built("REMUDA_S390X_KVM_TEST"), log)
    done = subprocess.run([*test, "--test-threads=1"], capture_output=True, text=True, timeout=90)
    expect(done.returncode == 0 and "5 passed" in done.stdout, done.stdout + done.stderr)


def probed(host, *arguments):
    with Monitor(*emulator(host, "/dev/null", *arguments)) as monitor:
        expect_equal(monitor.value("query-kvm"), {"enabled": True, "present": True}, "query-kvm")
        expect_equal(monitor.value("query-cpu-model"), {}, "query-cpu-model")
        expect_equal(monitor.static("host"), host.model(), "the host's model")
        definitions = monitor.definitions()
        types = {entry.get("default-cpu-type") for entry in monitor.value("query-machines") if entry["name"] != "none"}
        expect_equal(types, {"host-s390x-cpu"}, "default-cpu-type")
    return definitions


@on_every_host("-machine none without an accelerator, and -probe, tell what it is and what it runs")
def probe(host):
    definitions = probed(host, "-machine", "none")
    expect_equal(probed(host, "-probe"), definitions, "definitions with -probe")
    expect_equal(probed(host, "--probe", "-accel", "kvm"), definitions, "definitions with --probe")
    for recorded in host.definitions():
        mine = definitions[recorded["name"]]
        expect_equal(mine["unavailable-features"], recorded["unavailable-features"], recorded["name"])
        runnable = recorded["unavailable-features"] == []
        default = {"name": "kvm", "runnable": runnable, "default": False}
        expect_equal(mine["accelerators"], [default], f"accelerators of {recorded['name']}")
    defaults = [name for name, entry in definitions.items() if entry["accelerators"][0]["default"]]
    expect_equal([definitions[name]["alias-of"] + "-base" for name in defaults], [host.model()["name"]], "the default")


@on_every_host("a guest gets the CPU model of -cpu, or is refused with the reason")
def guests(host):
    with Monitor(*emulator(host, "/dev/null", "-probe")) as monitor:
        definitions = monitor.definitions()
    made = [guest(host, cpu, definitions) for cpu in MODELS]
    expect(made.count(True) >= 2 and made.count(False) >= 2, f"made {made}")


def guest(host, cpu, definitions):
    """Starts a guest; whether that could be done."""
    name = cpu.split(",")[0]
    log = simulation.FOLDER / "guest.log"
    log.write_text("")
    words = ["-S", "-machine", "s390-ccw-virtio", "-accel", "kvm", "-smp", "2", "-cpu", cpu]
    command = emulator(host, log, *words)
    entry = definitions.get(name)
    if entry is None:
        expect_equal(refusal(*command), f"unable to find CPU model '{name}'", cpu)
        return False
    if entry["unavailable-features"]:
        said = refusal(*command)
        missing = " ".join(entry["unavailable-features"])
        too_new = "type" in entry["unavailable-features"]
        wanted = "too new. Maximum supported model" if too_new else f"not available in the current configuration: {missing} "
        expect(wanted in said, said)
        return False
    with Monitor(*command) as monitor:
        cpus = monitor.value("query-cpus-fast")
        expect_equal([cpu["qom-type"] for cpu in cpus], [entry["typename"]] * 2, "qom-type")
        active = monitor.value("query-cpu-model")
        expect_equal(active["accelerator"], "kvm", "accelerator")
        target = definitions[active["name"]]["alias-of"]
        expect_equal(monitor.static(name)["name"], target + "-base", active["name"])
        on = monitor.value("qom-get", path=cpus[0]["qom-path"], property="te")
        wanted = monitor.static(name).get("props", {}).get("te", False) and "te=off" not in cpu
        expect_equal(on, wanted, f"te of {cpu}")
        error = monitor.reply("cont")["error"]
        expect("no SCLP" in error["desc"], f"{error}")
    in_order(log.read_text())
    return True


def in_order(log):
    """The model is set before the first vCPU, and nothing is refused."""
    lines = [line.split()[:2] for line in log.splitlines()]
    first_vcpu = lines.index(["create", "vcpu"])
    set_at = [place for place, line in enumerate(lines) if line[0] == "set"]
    expect(["set", "3/0"] in lines and max(set_at) < first_vcpu, f"{lines}")
    expect("EBUSY" not in log and "EINVAL" not in log, log)


@check("simulated host 9.2.0: starting a guest says what is missing, and no option is ignored")
def refusals():
    host = simulation.ALL[-1]
    for words, wanted in [
        (["-cpu", "z13"], "the guest cannot start: s390-ccw-virtio: a guest with CPU model 'z13' cannot run: "
                          "the machine has no SCLP and no channel subsystem"),
        (["-S", "-device", "virtio-net-ccw"], "-device virtio-net-ccw: the machine has no channel subsystem to plug it into"),
        (["-S", "-accel", "kvm,kernel-irqchip=on"], "Property 'kvm-accel.kernel-irqchip' not found"),
        (["-S", "-cpu", "z13,vx=2"], None),
        (["-S", "-cpu", "z13,nnpa=on"], None),
        (["-S", "-accel", "hostfile,path=/dev/null"], "accelerator hostfile runs no guest: "
                                                      "it answers questions about the host in its file"),
    ]:
        said = refusal(*emulator(host, "/dev/null", "-machine", "s390-ccw-virtio", *words))
        expect(said == wanted if wanted else "z13" in said, f"{words}: {said}")


@check("simulated host 9.2.0: every machine version we claim makes a guest, and no other")
def versions():
    host = simulation.ALL[-1]
    sets = []
    for version in MACHINES:
        machine = f"s390-ccw-virtio-{version}"
        with Monitor(*emulator(host, "/dev/null", "-S", "-machine", machine, "-cpu", "3931-ga1")) as monitor:
            active = monitor.value("query-cpu-model")
            expect_equal(active, {"name": "3931-ga1", "accelerator": "kvm"}, machine)
            kind = monitor.value("qom-get", path="/machine", property="type")
            expect_equal(kind, f"{machine}-machine", "type of /machine")
            sets.append([monitor.static(name) for name in ("gen16a", "gen15a", "z14", "qemu")])
    # The last change of a default set was made for 7.2.
    expect(all(entry == sets[-1] for entry in sets), "default sets differ between versions")
    said = refusal(*emulator(host, "/dev/null", "-machine", "s390-ccw-virtio-7.1"))
    expect('unsupported machine type: "s390-ccw-virtio-7.1"' in said, said)
