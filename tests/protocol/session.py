"""The QMP session on a raw socket: greeting, phases, ids, pipelining, out-of-band, recovery from bad input."""

import json

from harness.checks import Skip, check, expect, expect_equal
from harness.emulator import Emulator
from harness.qmp import QmpError


def no_guest(*arguments):
    """An emulator without a guest, as libvirt's probe starts it."""
    return Emulator(*arguments, machine="none")


def reply_error(reply):
    """Class and text of an error reply."""
    expect("error" in reply, f"an error was due, came {reply}")
    return reply["error"]["class"], reply["error"]["desc"]


@check("session: the greeting names a version and the oob capability")
def greeting():
    with no_guest() as emulator:
        qmp = emulator.qmp(negotiate=False)
        version = qmp.greeting["QMP"]["version"]
        expect_equal(sorted(version["qemu"]), ["major", "micro", "minor"], "members of version.qemu")
        expect(isinstance(version["package"], str), "package is a string")
        expect_equal(qmp.greeting["QMP"]["capabilities"], ["oob"], "capabilities")


@check("session: every line ends in CR LF")
def line_ends():
    with no_guest() as emulator:
        qmp = emulator.qmp()
        qmp.send({"execute": "query-version"})
        line = qmp.read_line()
        expect(line.endswith(b"\r\n"), f"line ends in {line[-2:]!r}")
        expect_equal(line.count(b"\n"), 1, "line feeds in a reply")


@check("session: before negotiation only qmp_capabilities is known, after it no more")
def negotiation_phase():
    with no_guest() as emulator:
        qmp = emulator.qmp(negotiate=False)
        qmp.send({"execute": "query-version"})
        error_class, desc = reply_error(qmp.read())
        expect_equal(error_class, "CommandNotFound", "class")
        expect("qmp_capabilities" in desc, f"the text says what to do: {desc}")
        qmp.send({"execute": "qmp_capabilities", "arguments": {"enable": ["warp"]}})
        reply_error(qmp.read())
        qmp.send({"execute": "qmp_capabilities"})
        expect_equal(qmp.read(), {"return": {}}, "reply")
        qmp.send({"execute": "qmp_capabilities"})
        error_class, desc = reply_error(qmp.read())
        expect_equal(error_class, "CommandNotFound", "class")
        expect("already complete" in desc, f"the text says why: {desc}")


@check("session: an id of any JSON type comes back as it was")
def id_kinds():
    idents = ["libvirt-1", "", "\u00e9\u4e2d\U0001f40e", 0, -5, 18446744073709551615, 1.5, True, False, None]
    idents += [[], [1, [2, "x"]], {}, {"a": {"b": [None]}}]
    with no_guest() as emulator:
        qmp = emulator.qmp()
        for ident in idents:
            qmp.send({"execute": "query-name", "id": ident})
            reply = qmp.read()
            expect("return" in reply, f"reply to id {ident!r}: {reply}")
            expect("id" in reply, f"id {ident!r} is missing from {reply}")
            expect_equal(reply["id"], ident, "id")
            expect_equal(type(reply["id"]), type(ident), "type of the id")
        qmp.send({"execute": "no-such-command", "id": [7]})
        expect_equal(qmp.read()["id"], [7], "id of an error")
        qmp.send({"execute": "query-name"})
        expect("id" not in qmp.read(), "no id is made up")


@check("session: pipelined commands are answered in order")
def pipelining():
    with no_guest() as emulator:
        qmp = emulator.qmp()
        names = ["query-version", "no-such-command", "query-kvm", "query-status", "query-qmp-schema", "query-name"]
        batch = b"".join(json.dumps({"execute": names[i % len(names)], "id": i}).encode() for i in range(120))
        qmp.send(batch + b"\n")
        for i in range(120):
            reply = qmp.read_reply()
            expect_equal(reply.get("id"), i, "id of the next reply")
            expect_equal("error" in reply, names[i % len(names)] == "no-such-command", f"error in reply {i}")


@check("session: a command may come in single bytes and in any spacing")
def single_bytes():
    with no_guest() as emulator:
        qmp = emulator.qmp()
        for byte in b'\t{\n "id" : "s",\r\n"execute":\n"query-name" }':
            qmp.send(bytes([byte]))
        expect_equal(qmp.read(), {"return": {}, "id": "s"}, "reply without any line end sent")


@check("session: what is wrong with a request is said")
def request_errors():
    requests = [
        ([1], "QMP input must be a JSON object"),
        ("x", "QMP input must be a JSON object"),
        ({}, "lacks member 'execute'"),
        ({"execute": 3}, "must be a string"),
        ({"execute": "query-name", "arguments": 3}, "must be an object"),
        ({"execute": "query-name", "extra": 1}, "'extra' is unexpected"),
        ({"execute": "query-name", "exec-oob": "query-name"}, "'exec-oob'"),
        ({"execute": "query-name", "arguments": {"x": 1}}, "Parameter 'x' is unexpected"),
        ({"execute": "human-monitor-command"}, "Parameter 'command-line' is missing"),
        ({"execute": "human-monitor-command", "arguments": {"command-line": 1}}, "expected: string"),
        ({"execute": "qom-get", "arguments": {"path": "/"}}, "Parameter 'property' is missing"),
        ({"execute": "set-action", "arguments": {"reboot": "dance"}}, "does not accept value 'dance'"),
    ]
    with no_guest() as emulator:
        qmp = emulator.qmp()
        for request, text in requests:
            qmp.send(request)
            error_class, desc = reply_error(qmp.read())
            expect_equal(error_class, "GenericError", f"class for {request}")
            expect(text in desc, f"reply to {request}: {desc!r} lacks {text!r}")
        qmp.send({"execute": "no-such-command"})
        error_class, desc = reply_error(qmp.read())
        expect_equal(error_class, "CommandNotFound", "class")
        expect_equal(desc, "The command no-such-command has not been found", "text")


@check("session: after bad input the next command is answered")
def resynchronisation():
    bad = [
        b"garbage", b"}", b"]", b"{]", b"[}", b'{"execute": }', b'{"execute" "query-name"}', b"{'execute': 'x',}",
        b'{"execute": "query-name", "execute": "query-name"}', b'"unended', b"{\"a\": \"\xff\xfe\"}", b"\x00",
        b'{"a": "\\ud800"}', b'{"a": "\\q"}', b'{"a": "tab\there"}', b"01", b"1.", b"-", b"+1", b"nul", b"%d", b"{1: 2}",
        b'{"a": 1e999}', b"[" * 2000, b"\xc3\x28", b"\xed\xa0\x80",
    ]  # fmt: skip
    with no_guest() as emulator:
        qmp = emulator.qmp()
        for number, document in enumerate(bad):
            qmp.send(document + b"\n\xff\n" + json.dumps({"execute": "query-name", "id": number}).encode() + b"\n")
            replies = [qmp.read()]
            while "id" not in replies[-1]:
                replies.append(qmp.read())
            expect_equal(replies.pop(), {"return": {}, "id": number}, f"reply after {document[:40]!r}")
            expect(replies, f"{document[:40]!r} got no error")
            for reply in replies:
                expect_equal(reply_error(reply)[0], "GenericError", f"class for {document[:40]!r}")


@check("session: nesting has a limit, a long string has room")
def limits():
    with no_guest() as emulator:
        qmp = emulator.qmp()
        qmp.send(b"[" * 1100 + b"]" * 1100 + b"\n")
        expect("nesting" in reply_error(qmp.read())[1], "the text names the nesting")
        qmp.send(b"\xff\n")
        qmp.send({"execute": "query-name", "id": "after"})
        while (reply := qmp.read()).get("id") != "after":
            reply_error(reply)
        qmp.send({"execute": "query-name", "id": "x" * (1 << 20)})
        expect_equal(len(qmp.read()["id"]), 1 << 20, "length of the id")


def oob_command(qmp):
    """A command that may run out of band and wants no arguments."""
    schema = qmp.command("query-qmp-schema")
    types = {entity["name"]: entity for entity in schema}
    for entity in schema:
        if entity["meta-type"] == "command" and entity.get("allow-oob"):
            if all("default" in member for member in types[entity["arg-type"]].get("members", [])):
                return entity["name"]
    raise Skip("the schema has no out-of-band command without arguments")


@check("session: exec-oob is answered before commands that wait")
def out_of_band():
    with Emulator(guest=False, paused=True, console=False) as emulator:
        qmp = emulator.qmp(oob=True)
        name = oob_command(qmp)
        commands = ["query-qmp-schema"] * 3 + ["query-cpus-fast"] * 4
        batch = [{"execute": command, "id": i} for i, command in enumerate(commands)]
        batch.append({"exec-oob": name, "id": "oob"})
        qmp.send(b"".join(json.dumps(message).encode() for message in batch) + b"\n")
        order = [qmp.read_reply()["id"] for _ in batch]
        expect(order[-1] != "oob", f"order of the replies {order}")
        expect_equal([i for i in order if i != "oob"], list(range(7)), "order of the in-band replies")


@check("session: exec-oob needs the capability, an id and a command that allows it")
def out_of_band_rules():
    with no_guest() as emulator:
        with_oob = emulator.qmp(oob=True)
        with_oob.send({"exec-oob": "query-version", "id": 1})
        expect("does not support OOB" in reply_error(with_oob.read())[1], "a command not meant for it")
        with_oob.send({"exec-oob": "no-such-command", "id": 2})
        expect_equal(reply_error(with_oob.read())[0], "CommandNotFound", "class")
        name = oob_command(with_oob)
        with_oob.send({"exec-oob": name})
        expect("'id'" in reply_error(with_oob.read())[1], "a request without an id")
        with_oob.close()
        without = emulator.qmp()
        without.send({"exec-oob": name, "id": 3})
        reply = without.read()
        expect_equal(reply.get("id"), 3, "id")
        reply_error(reply)


@check("session: errors of known classes")
def error_classes():
    with Emulator(guest=False, paused=True, console=False) as emulator:
        qmp = emulator.qmp()
        offered = {command["name"] for command in qmp.command("query-commands")}
        for command, arguments, wanted in [
            ("device_del", {"id": "nothing"}, "DeviceNotFound"),
            ("qom-get", {"path": "/nowhere", "property": "x"}, "DeviceNotFound"),
            ("device-list-properties", {"typename": "no-such-device"}, "DeviceNotFound"),
            ("balloon", {"value": 1 << 20}, "DeviceNotActive"),
            ("qom-get", {"path": "/machine", "property": "no-such-property"}, "GenericError"),
        ]:
            if command not in offered:
                continue
            try:
                qmp.command(command, **arguments)
            except QmpError as error:
                expect_equal(error.error_class, wanted, f"class of {command}: {error.desc}")
            else:
                expect(False, f"{command} {arguments} succeeded")
