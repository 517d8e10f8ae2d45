/*
 * The test guest: a PVH kernel that talks on COM1 and does, on request, what a test wants to see.
 *
 * It prints REMUDA-GUEST and what it was started with, then sleeps in HLT with interrupts on. Each
 * line typed on COM1 is echoed; its first letter is the command:
 *
 *   e TEXT  print TEXT            u  dump CPUID and feature MSRs     p  panic through pvpanic (0x505)
 *   m       print memory map      l  list PCI functions of bus 0     r  reset through 0xcf9
 *   c       print the RTC         w  count timer ticks for a second  k  reset through the i8042
 *   n       count of NMIs         s  CLI; HLT: sleep for ever        t  triple fault
 *   b       busy loop             d  N: debug-exit with N (0xf4)     o  power off (ACPI S5)
 *   y TEXT  print TEXT on COM2            i  print the next line typed on COM2
 *   f N     print N KiB of the alphabet  g N  the same on the debug console (0xe9)
 *   v       serve the ports of virtio-serial, until something is typed: answers like a guest agent, else echoes lines
 *   x ...   do something with a network card: see net.c
 *   h N     print the next N bytes that the keyboard controller has
 *   q OP [N [M [DISK]]]   ask a virtio disk of bus 0: read sector N, write M into sector N, flush, identify, capacity, discard or
 *           zero M sectors from N on (OP is r, w, f, i, c, d, z); print the status, and what was read
 *   a       from now on, take interrupts through the I/O APIC: those of COM1 and ACPI level-triggered
 *
 * A command line that begins with "run " has the rest carried out first. The ACPI power button powers it off. Only plain i486 instructions are used beside CPUID and
 * RDMSR, so that it runs on any KVM, a software one included.
 */
#include "guest.h"

enum { COM1 = 0x3f8, COM2 = 0x2f8, DEBUG_CONSOLE = 0xe9, PIC1 = 0x20, PIC2 = 0xa0, PIT = 0x40, RTC = 0x70, I8042 = 0x64, I8042_DATA = 0x60 };
enum { RESET_CONTROL = 0xcf9, DEBUG_EXIT = 0xf4, PVPANIC = 0x505, PVPANIC_PANICKED = 1 };
enum { IRQ_BASE = 32, IRQ_TIMER = 0, IRQ_COM1 = 4, IRQ_SCI = 9, VECTOR_NMI = 2 };
enum { IO_APIC = 0xfec00000, LOCAL_APIC = 0xfee00000, APIC_EOI = 0xb0, APIC_SPURIOUS = 0xf0, APIC_LINT0 = 0x350 };
enum { PIN_TIMER = 2, LEVEL = 1 << 15, MASKED = 1 << 16 };
enum { PM1_POWER_BUTTON = 1 << 8, PM1_SCI_ENABLE = 1, PM1_SLEEP_ENABLE = 1 << 13, TICKS_PER_SECOND = 100 };

/* include/xen/arch-x86/hvm/start_info.h: the fields of version 1. */
struct start_info { u32 magic, version, flags, modules_count; u64 modules, cmdline, rsdp, memmap; u32 memmap_entries, reserved; };
struct memmap_entry { u64 address, size; u32 type, reserved; };
struct gate { u16 low, selector, attributes, high; };

extern const u8 stubs[];
static struct gate idt[48];
static struct start_info info;
static volatile u32 ticks, nmis, input_head, input_tail, power_button;
static int through_apic;
static volatile char input[256];
static u16 pm1_event, pm1_control;
static u16 sleep_type;

void put(char c)
{
    while (!(inb(COM1 + 5) & 0x20)) { }
    outb(COM1, (u8)c);
}

void print(const char *text)
{
    for (; *text; text++) {
        if (*text == '\n') put('\r');
        put(*text);
    }
}

void hex(u32 value, int digits)
{
    while (digits--) put("0123456789abcdef"[(value >> (digits * 4)) & 15]);
}

static void field(const char *name, u32 value)
{
    print(name);
    hex(value, 8);
}

void decimal(u32 value)
{
    char text[11];
    int at = 10;
    text[at] = 0;
    do text[--at] = (char)('0' + value % 10); while (value /= 10);
    print(text + at);
}

static int same(const char *a, const char *b, u32 length)
{
    while (length && *a == *b) a++, b++, length--;
    return !length;
}

static void write32(u32 address, u32 value) { *(volatile u32 *)address = value; }

/* ---- interrupts ------------------------------------------------------------------------------ */

void guest_interrupt(u32 vector)
{
    if (vector == VECTOR_NMI) {
        nmis++;
        return;
    }
    if (vector < IRQ_BASE) {
        print("EXCEPTION ");
        decimal(vector);
        print("\n");
        for (;;) __asm__ volatile("cli; hlt");
    }
    u32 irq = vector - IRQ_BASE;
    if (irq == IRQ_TIMER) ticks++;
    if (irq == IRQ_COM1) {
        while (inb(COM1 + 5) & 1) {
            input[input_head % sizeof input] = (char)inb(COM1);
            input_head++;
        }
    }
    if (irq == IRQ_SCI) {
        u16 status = inw(pm1_event);
        outw(pm1_event, status);
        if (status & PM1_POWER_BUTTON) power_button = 1;
    }
    if (through_apic) {
        write32(LOCAL_APIC + APIC_EOI, 0);
        return;
    }
    if (irq >= 8) outb(PIC2, 0x20);
    outb(PIC1, 0x20);
}

static void interrupts_on(void)
{
    struct { u16 limit; u32 base; } __attribute__((packed)) pointer = { sizeof idt - 1, (u32)idt };
    for (u32 vector = 0; vector < 48; vector++) {
        u32 stub = (u32)stubs + vector * 16;
        idt[vector] = (struct gate){ (u16)stub, 8, 0x8e00, (u16)(stub >> 16) };
    }
    __asm__ volatile("lidt %0" : : "m"(pointer));
    outb(PIC1, 0x11), outb(PIC2, 0x11);
    outb(PIC1 + 1, IRQ_BASE), outb(PIC2 + 1, IRQ_BASE + 8);
    outb(PIC1 + 1, 4), outb(PIC2 + 1, 2);
    outb(PIC1 + 1, 1), outb(PIC2 + 1, 1);
    outb(PIC1 + 1, (u8)~(1 << IRQ_COM1 | 1 << 2)), outb(PIC2 + 1, (u8)~(1 << (IRQ_SCI - 8)));
    outb(PIT + 3, 0x34);
    outb(PIT, (u8)(1193182 / TICKS_PER_SECOND)), outb(PIT, (u8)(1193182 / TICKS_PER_SECOND >> 8));
    outb(COM1 + 3, 3), outb(COM1 + 2, 7), outb(COM1 + 4, 11);
    do inb(COM1); while (inb(COM1 + 5) & 1);
    outb(COM1 + 1, 1);
    __asm__ volatile("sti");
}

static void redirect(u32 pin, u32 entry)
{
    write32(IO_APIC, 0x10 + 2 * pin + 1), write32(IO_APIC + 0x10, 0);
    write32(IO_APIC, 0x10 + 2 * pin), write32(IO_APIC + 0x10, entry);
}

static void apic_on(void)
{
    __asm__ volatile("cli");
    outb(PIC1 + 1, 0xff), outb(PIC2 + 1, 0xff);
    write32(LOCAL_APIC + APIC_SPURIOUS, 0x100 | (IRQ_BASE + 15));
    write32(LOCAL_APIC + APIC_LINT0, MASKED);
    through_apic = 1;
    redirect(IRQ_COM1, (IRQ_BASE + IRQ_COM1) | LEVEL);
    redirect(IRQ_SCI, (IRQ_BASE + IRQ_SCI) | LEVEL);
    write32(IO_APIC, 1);
    field("APIC version ", *(volatile u32 *)(IO_APIC + 0x10)), print("\n");
    __asm__ volatile("sti");
}

static void timer(int on)
{
    if (through_apic) {
        redirect(PIN_TIMER, (IRQ_BASE + IRQ_TIMER) | (on ? 0 : MASKED));
        return;
    }
    outb(PIC1 + 1, (u8)~(1 << IRQ_COM1 | 1 << 2 | (on ? 1 << IRQ_TIMER : 0)));
}

/* ---- ACPI ------------------------------------------------------------------------------------ */

static const u8 *find_rsdp(void)
{
    if (info.rsdp) return (const u8 *)(u32)info.rsdp;
    for (u32 at = 0xe0000; at < 0x100000; at += 16)
        if (same((const char *)at, "RSD PTR ", 8)) return (const u8 *)at;
    return 0;
}

static u32 read32(const u8 *at) { return *(const u32 *)at; }

static const u8 *find_table(const char *signature)
{
    const u8 *rsdp = find_rsdp();
    if (!rsdp) return 0;
    int wide = rsdp[15] >= 2 && read32(rsdp + 24);
    const u8 *root = (const u8 *)read32(rsdp + (wide ? 24 : 16));
    for (u32 at = 36; at < read32(root + 4); at += wide ? 8 : 4) {
        const u8 *table = (const u8 *)read32(root + at);
        if (same((const char *)table, signature, 4)) return table;
    }
    return 0;
}

/* The first element of the package \_S5 in the DSDT, which is what SLP_TYP wants. */
static int find_sleep_type(const u8 *dsdt)
{
    for (u32 at = 36; at + 8 <= read32(dsdt + 4); at++) {
        if (!same((const char *)dsdt + at, "_S5_\x12", 5)) continue;
        const u8 *package = dsdt + at + 5;
        package += (package[0] >> 6) + 2;
        sleep_type = *package == 0x0a ? package[1] : (*package == 1 ? 1 : 0);
        return 1;
    }
    return 0;
}

static void acpi_on(void)
{
    const u8 *fadt = find_table("FACP");
    if (!fadt) {
        print("ACPI none\n");
        return;
    }
    pm1_event = (u16)read32(fadt + 56);
    pm1_control = (u16)read32(fadt + 64);
    u16 command = (u16)read32(fadt + 48);
    if (command && !(inw(pm1_control) & PM1_SCI_ENABLE)) outb((u16)command, fadt[52]);
    outw(pm1_event, 0xffff);
    outw((u16)(pm1_event + fadt[88] / 2), PM1_POWER_BUTTON);
    print("ACPI s5 ");
    print(find_sleep_type((const u8 *)read32(fadt + 40)) ? "found" : "missing");
    field(" pm1 ", pm1_event);
    print(inw(pm1_control) & PM1_SCI_ENABLE ? " on\n" : " off\n");
}

static void power_off(void)
{
    print("POWER-OFF\n");
    outw(pm1_control, (u16)(sleep_type << 10 | PM1_SLEEP_ENABLE));
}

/* ---- commands -------------------------------------------------------------------------------- */

static void cpuid(u32 leaf, u32 subleaf, u32 *r)
{
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(subleaf));
}

static void print_leaf(u32 leaf, u32 subleaf)
{
    u32 r[4];
    cpuid(leaf, subleaf, r);
    int past_last_level = (leaf == 0xb || leaf == 0x1f) && subleaf && !(r[2] & 0xff00);
    if (past_last_level || !(r[0] | r[1] | r[2] | r[3])) return;
    field("CPUID ", leaf), field(" ", subleaf);
    field(": ", r[0]), field(" ", r[1]), field(" ", r[2]), field(" ", r[3]);
    print("\n");
}

static int has_subleaves(u32 leaf)
{
    return leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd || leaf == 0xf || leaf == 0x10 || leaf == 0x12
        || leaf == 0x14 || leaf == 0x17 || leaf == 0x18 || leaf == 0x1d || leaf == 0x1f || leaf == 0x8000001d;
}

static void dump_cpu(void)
{
    static const u32 bases[] = { 0, 0x40000000, 0x40000100, 0x80000000, 0xc0000000 };
    u32 r[4], hypervisor[4];
    cpuid(1, 0, hypervisor);
    for (u32 i = 0; i < sizeof bases / sizeof *bases; i++) {
        if (i >= 1 && i <= 2 && !(hypervisor[2] >> 31)) continue;
        cpuid(bases[i], 0, r);
        if (r[0] < bases[i] || r[0] > bases[i] + 0xff) continue;
        for (u32 leaf = bases[i], last = r[0]; leaf <= last; leaf++)
            for (u32 subleaf = 0; subleaf < (has_subleaves(leaf) ? 64 : 1); subleaf++) print_leaf(leaf, subleaf);
    }
    cpuid(7, 0, r);
    if (r[3] & 1 << 29) {
        u32 low, high;
        __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0x10a));
        field("MSR 0000010a: ", high), field(" ", low);
        print("\n");
    }
    print("CPU-END\n");
}

static void print_memory(void)
{
    const struct memmap_entry *map = (const struct memmap_entry *)(u32)info.memmap;
    u32 entries = info.version >= 1 && map ? info.memmap_entries : 0;
    for (u32 i = 0; i < entries; i++) {
        field("MEM ", (u32)(map[i].address >> 32)), field("", (u32)map[i].address);
        field(" + ", (u32)(map[i].size >> 32)), field("", (u32)map[i].size);
        print(" type "), decimal(map[i].type), print("\n");
    }
    print("MEM-END\n");
}

u32 pci_read(u32 function, u32 offset)
{
    outl(PCI, 0x80000000u | function << 8 | offset);
    return inl(PCI + 4);
}

void pci_write(u32 function, u32 offset, u32 value)
{
    outl(PCI, 0x80000000u | function << 8 | offset);
    outl(PCI + 4, value);
}

static void list_pci(void)
{
    for (u32 slot = 0; slot < 32; slot++) {
        u32 functions = pci_read(slot << 3, 0) == 0xffffffff ? 0 : pci_read(slot << 3, 12) & 0x800000 ? 8 : 1;
        for (u32 function = 0; function < functions; function++) {
            u32 id = pci_read(slot << 3 | function, 0), class = pci_read(slot << 3 | function, 8);
            if (id == 0xffffffff) continue;
            print("PCI 00:"), hex(slot, 2), put('.'), hex(function, 1);
            put(' '), hex(id & 0xffff, 4), put(':'), hex(id >> 16, 4);
            print(" class "), hex(class >> 8, 6), print("\n");
        }
    }
    print("PCI-END\n");
}

static u8 rtc(u8 reg)
{
    outb(RTC, reg);
    return inb(RTC + 1);
}

static void print_clock(void)
{
    static const u8 regs[] = { 0x32, 9, 8, 7, 4, 2, 0 };
    while (rtc(10) & 0x80) { }
    print("RTC ");
    for (u32 i = 0; i < sizeof regs; i++) hex(rtc(regs[i]), 2);
    print("\n");
}

static void count_ticks(void)
{
    u8 second = rtc(0);
    while (rtc(0) == second) { }
    u32 start = ticks;
    second = rtc(0);
    timer(1);
    while (rtc(0) == second) __asm__ volatile("hlt");
    timer(0);
    print("TICKS "), decimal(ticks - start), print("\n");
}

static void triple_fault(void)
{
    struct { u16 limit; u32 base; } __attribute__((packed)) nothing = { 0, 0 };
    __asm__ volatile("lidt %0; ud2" : : "m"(nothing));
}

u32 number(const char *text)
{
    u32 value = 0;
    while (*text == ' ') text++;
    while (*text >= '0' && *text <= '9') value = value * 10 + (u32)(*text++ - '0');
    return value;
}

static void print_keys(u32 count)
{
    while (count--) {
        while (!(inb(I8042) & 1)) { }
        put(' '), hex(inb(I8042_DATA), 2);
    }
}

static void second_port(const char *text)
{
    for (; *text; text++) {
        while (!(inb(COM2 + 5) & 0x20)) { }
        outb(COM2, (u8)*text);
    }
}

/* Prints the line that is typed on COM2. */
static void second_line(void)
{
    print("COM2 ");
    for (;;) {
        while (!(inb(COM2 + 5) & 1)) { }
        char c = (char)inb(COM2);
        if (c == '\r' || c == '\n') break;
        put(c);
    }
    print("\n");
}

/* Prints the alphabet over and over, `count` KiB. */
static void flood(u16 port, u32 count)
{
    for (u32 i = 0; i < count << 10; i++) {
        if (port == COM1) while (!(inb(COM1 + 5) & 0x20)) { }
        outb(port, (u8)('A' + i % 26));
    }
}

/* ---- virtio-serial through its legacy interface ------------------------------------------------ */

enum { VIRTIO_SERIAL = 0x10031af4, MULTIPORT = 2, RING_SIZE = 8192, PORTS = 4, QUEUES = 2 * PORTS + 2, BUFFER = 512 };
enum { FEATURES = 4, QUEUE_PFN = 8, QUEUE_SIZE = 12, QUEUE_SELECT = 14, QUEUE_NOTIFY = 16, STATUS = 18 };
enum { DEVICE_READY = 0, PORT_ADD = 1, PORT_REMOVE = 2, PORT_READY = 3, CONSOLE_PORT = 4, PORT_OPEN = 6, PORT_NAME = 7 };

struct descriptor { u64 addr; u32 len; u16 flags, next; };
struct queue { struct descriptor *table; volatile u16 *available, *used; u16 size, offered, seen; };
static u8 rings[QUEUES][RING_SIZE] __attribute__((aligned(4096)));
static u8 buffers[QUEUES][BUFFER];
static struct queue queues[QUEUES];
static char lines[PORTS][4096];
static u32 lengths[PORTS];
static u16 serial;

static u32 queue_of(u32 port) { return port ? 2 * port + 2 : 0; }

static void offer(u32 index, u32 length, u16 flags)
{
    struct queue *queue = &queues[index];
    queue->table[0] = (struct descriptor){ (u32)buffers[index], length, flags, 0 };
    queue->available[2 + queue->offered++ % queue->size] = 0;
    queue->available[1] = queue->offered;
    outw((u16)(serial + QUEUE_NOTIFY), (u16)index);
}

/* The bytes that came in a buffer, or nothing; the buffer is in the guest's hands again then. */
static int came(u32 index, u32 *length)
{
    struct queue *queue = &queues[index];
    if (queue->used[1] == queue->seen) return 0;
    *length = *(volatile u32 *)(queue->used + 2 + 4 * (queue->seen++ % queue->size) + 2);
    return 1;
}

static void say(u32 index, const void *bytes, u32 length)
{
    u32 taken;
    for (u32 i = 0; i < length; i++) buffers[index][i] = ((const u8 *)bytes)[i];
    offer(index, length, 0);
    while (!came(index, &taken)) { }
}

static void tell(u32 port, u16 event, u16 value)
{
    struct { u32 port; u16 event, value; } message = { port, event, value };
    say(3, &message, sizeof message);
}

static void answer(u32 port, const char *line, u32 length)
{
    static const char pong[] = "{\"return\": {}}\n";
    u32 out = queue_of(port) + 1, at;
    for (at = 0; at + 12 < length; at++) {
        if (same(line + at, "guest-ping", 10)) {
            say(out, pong, sizeof pong - 1);
            return;
        }
        if (!same(line + at, "guest-sync", 10)) continue;
        char reply[32] = "{\"return\": ";
        u32 end = 11;
        while (at < length && (line[at] < '0' || line[at] > '9')) at++;
        while (at < length && line[at] >= '0' && line[at] <= '9' && end < 28) reply[end++] = line[at++];
        reply[end++] = '}', reply[end++] = '\n';
        say(out, reply, end);
        return;
    }
    for (at = 0; at < length; at += BUFFER) say(out, line + at, length - at < BUFFER ? length - at : BUFFER);
}

static void take_characters(u32 port)
{
    u32 in = queue_of(port), length;
    if (!came(in, &length)) return;
    for (u32 i = 0; i < length; i++) {
        if (lengths[port] < sizeof lines[port]) lines[port][lengths[port]++] = (char)buffers[in][i];
        if (buffers[in][i] != '\n') continue;
        answer(port, lines[port], lengths[port]);
        lengths[port] = 0;
    }
    offer(in, BUFFER, 2);
}

static void take_news(void)
{
    struct { u32 port; u16 event, value; char name[BUFFER - 8]; } *message = (void *)buffers[2];
    u32 length;
    if (!came(2, &length)) return;
    u32 port = message->port, event = message->event, value = message->value;
    print("PORT "), decimal(port);
    if (event == PORT_ADD) print(" added");
    if (event == PORT_REMOVE) print(" removed");
    if (event == CONSOLE_PORT) print(" console");
    if (event == PORT_OPEN) print(value ? " connected" : " disconnected");
    if (event == PORT_NAME) message->name[length - 8] = 0, print(" name "), print(message->name);
    print("\n");
    offer(2, BUFFER, 2);
    if (event == PORT_ADD && port < PORTS) tell(port, PORT_READY, 1), tell(port, PORT_OPEN, 1);
}

static int find_serial(void)
{
    for (u32 function = 0; function < 256; function++) {
        if (pci_read(function, 0) != VIRTIO_SERIAL) continue;
        serial = 0xd000;
        pci_read(function, 0x10), outl(PCI + 4, serial);
        pci_read(function, 4), outw(PCI + 4, 7);
        return 1;
    }
    return 0;
}

static void serve_ports(void)
{
    if (!find_serial()) {
        print("NO PORTS\n");
        return;
    }
    outb((u16)(serial + STATUS), 0), outb((u16)(serial + STATUS), 3);
    outl((u16)(serial + FEATURES), MULTIPORT);
    for (u32 index = 0; index < QUEUES; index++) {
        struct queue *queue = &queues[index];
        for (u32 i = 0; i < RING_SIZE; i++) rings[index][i] = 0;
        outw((u16)(serial + QUEUE_SELECT), (u16)index);
        u32 size = inw((u16)(serial + QUEUE_SIZE)), used = (size * 18 + 6 + 4095) & ~4095u;
        *queue = (struct queue){ (void *)rings[index], (void *)(rings[index] + size * 16), (void *)(rings[index] + used), (u16)size, 0, 0 };
        outl((u16)(serial + QUEUE_PFN), (u32)rings[index] >> 12);
    }
    for (u32 port = 0; port < PORTS; port++) lengths[port] = 0;
    outb((u16)(serial + STATUS), 7);
    for (u32 index = 0; index < QUEUES; index += 2) offer(index, BUFFER, 2);
    print("PORTS\n");
    tell(0xffffffff, DEVICE_READY, 1);
    while (input_head == input_tail) {
        take_news();
        for (u32 port = 0; port < PORTS; port++) take_characters(port);
    }
    outb((u16)(serial + STATUS), 0);
    print("NO MORE PORTS\n");
}

/* ---- virtio disks through their legacy interface ----------------------------------------------- */

enum { VIRTIO_DISK = 0x10011af4, DISK_RING_SIZE = 16384, DISK_CONFIG = 20, DISK_FEATURES = 1 << 9 | 1 << 13 | 1 << 14, SECTOR = 512, ID_SIZE = 20 };

static u8 disk_ring[DISK_RING_SIZE] __attribute__((aligned(4096)));
static struct queue requests;
static u16 disk;

static u32 next_number(const char **text)
{
    while (**text == ' ') (*text)++;
    u32 value = number(*text);
    while (**text >= '0' && **text <= '9') (*text)++;
    return value;
}

/* The disk of this index, with one queue that nothing has happened in. */
static int find_disk(u32 index)
{
    for (u32 function = 0; function < 256; function++) {
        if (pci_read(function, 0) != VIRTIO_DISK || index--) continue;
        disk = (u16)(0xd400 + 0x100 * (function >> 3 & 7));
        pci_read(function, 0x10), outl(PCI + 4, disk);
        pci_read(function, 4), outw(PCI + 4, 7);
        outb((u16)(disk + STATUS), 0), outb((u16)(disk + STATUS), 3);
        outl((u16)(disk + FEATURES), DISK_FEATURES);
        for (u32 i = 0; i < DISK_RING_SIZE; i++) disk_ring[i] = 0;
        outw((u16)(disk + QUEUE_SELECT), 0);
        u32 size = inw((u16)(disk + QUEUE_SIZE)), used = (size * 18 + 6 + 4095) & ~4095u;
        requests = (struct queue){ (void *)disk_ring, (void *)(disk_ring + size * 16), (void *)(disk_ring + used), (u16)size, 0, 0 };
        outl((u16)(disk + QUEUE_PFN), (u32)disk_ring >> 12);
        outb((u16)(disk + STATUS), 7);
        return 1;
    }
    return 0;
}

static u32 ask_disk(u32 type, u32 sector, void *data, u32 length, int reads)
{
    struct { u32 type, reserved; u64 sector; } header = { type, 0, sector };
    volatile u8 status = 0xff;
    u16 last = (u16)(length ? 2 : 1);
    requests.table[0] = (struct descriptor){ (u32)&header, sizeof header, 1, 1 };
    requests.table[1] = (struct descriptor){ (u32)data, length, (u16)(1 | (reads ? 2 : 0)), 2 };
    requests.table[last] = (struct descriptor){ (u32)&status, 1, 2, 0 };
    requests.available[2 + requests.offered++ % requests.size] = 0;
    __asm__ volatile("" : : : "memory");
    requests.available[1] = requests.offered;
    outw((u16)(disk + QUEUE_NOTIFY), 0);
    while (requests.used[1] == requests.seen) { }
    requests.seen++;
    __asm__ volatile("" : : : "memory");
    return status;
}

static void use_disk(const char *text)
{
    static u8 data[SECTOR + 1];
    struct { u64 sector; u32 count, flags; } range;
    while (*text == ' ') text++;
    char operation = *text++;
    u32 sector = next_number(&text), value = next_number(&text), status = 0xff;
    if (!find_disk(next_number(&text))) {
        print("NO DISK\n");
        return;
    }
    range.sector = sector, range.count = value, range.flags = 0;
    for (u32 i = 0; i < SECTOR; i++) data[i] = (u8)value;
    print("DISK ");
    switch (operation) {
    case 'r': status = ask_disk(0, sector, data, SECTOR, 1); break;
    case 'w': status = ask_disk(1, sector, data, SECTOR, 0); break;
    case 'f': status = ask_disk(4, 0, 0, 0, 0); break;
    case 'i': status = ask_disk(8, 0, data, ID_SIZE, 1); break;
    case 'd': status = ask_disk(11, 0, &range, sizeof range, 0); break;
    case 'z': status = ask_disk(13, 0, &range, sizeof range, 0); break;
    case 'c': status = 0, decimal(inl((u16)(disk + DISK_CONFIG))), put(' '); break;
    }
    print("status "), decimal(status);
    if (operation == 'r') print(" bytes "), hex(data[0], 2), hex(data[SECTOR / 2], 2), hex(data[SECTOR - 1], 2);
    if (operation == 'i') data[ID_SIZE] = 0, print(" id "), print((const char *)data);
    print("\n");
}

static void run(const char *line)
{
    switch (line[0]) {
    case 'e': print("ECHO "), print(line[1] ? line + 2 : line + 1), print("\n"); break;
    case 'u': dump_cpu(); break;
    case 'm': print_memory(); break;
    case 'l': list_pci(); break;
    case 'a': apic_on(); break;
    case 'v': serve_ports(); break;
    case 'q': use_disk(line + 1); break;
    case 'c': print_clock(); break;
    case 'w': count_ticks(); break;
    case 'n': print("NMIS "), decimal(nmis), print("\n"); break;
    case 'h': print("KEYS"), print_keys(number(line + 1)), print("\n"); break;
    case 'p': print("PANIC\n"), outb(PVPANIC, PVPANIC_PANICKED); break;
    case 'r': print("RESET\n"), outb(RESET_CONTROL, 2), outb(RESET_CONTROL, 6); break;
    case 'k': print("RESET\n"), outb(I8042, 0xfe); break;
    case 't': print("TRIPLE\n"), triple_fault(); break;
    case 'd': outl(DEBUG_EXIT, line[1] ? (u32)(line[2] - '0') : 0); break;
    case 'o': power_off(); break;
    case 'y': second_port(line[1] ? line + 2 : line + 1); break;
    case 'i': second_line(); break;
    case 'f': print("FLOOD\n"), flood(COM1, number(line + 1)), print("\nDONE\n"); break;
    case 'g': flood(DEBUG_CONSOLE, number(line + 1)), print("DONE\n"); break;
    case 'x': run_net(line[1] ? line + 2 : line + 1); break;
    case 'b': print("BUSY\n"); for (;;) { } break;
    case 's': print("SLEEP\n"); for (;;) __asm__ volatile("cli; hlt"); break;
    case 0: break;
    default: print("UNKNOWN "), print(line), print("\n");
    }
}

int is_typed(void) { return input_head != input_tail; }

static char next_char(void)
{
    for (;;) {
        __asm__ volatile("cli");
        if (power_button) power_button = 0, print("POWER-BUTTON\n"), power_off();
        if (is_typed()) break;
        __asm__ volatile("sti; hlt");
    }
    char c = input[input_tail % sizeof input];
    input_tail++;
    __asm__ volatile("sti");
    return c;
}

void guest_main(const struct start_info *start)
{
    char line[128];
    info = *start;
    outb(COM1 + 1, 0);
    print("REMUDA-GUEST magic "), hex(info.magic, 8);
    print("\nCMDLINE "), print(info.cmdline ? (const char *)(u32)info.cmdline : ""), print("\n");
    print("MODULES "), decimal(info.modules_count), print("\n");
    acpi_on();
    interrupts_on();
    print("READY\n");
    const char *first = info.cmdline ? (const char *)(u32)info.cmdline : "";
    if (same(first, "run ", 4)) run(first + 4);
    for (u32 length = 0;;) {
        char c = next_char();
        if (c == '\r' || c == '\n') {
            print("\n");
            line[length] = 0;
            run(line);
            length = 0;
        } else if (length < sizeof line - 1) {
            put(c);
            line[length++] = c;
        }
    }
}
