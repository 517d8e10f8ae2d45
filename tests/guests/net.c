/*
 * The test guest's driver of virtio network cards. Its commands follow an `x`:
 *
 *   i N LETTERS  take the N-th card, and print what it is. Letters: l its legacy interface, m frames in several buffers
 *                (which are of 256 bytes then), q several queue pairs (all of them), o checksums and segments left to it
 *   s N Q        send a frame of N bytes to everybody, by queue pair Q
 *   g N          send N bytes of TCP in one frame, which the other side is to cut into segments
 *   r            print the next frame that comes
 *   e            send back what comes, until something is typed
 *   p N SIZE     send N frames of SIZE bytes, each to come back before the next
 *   c HEX        a command by the control queue
 *   t            print the status
 *   b            break the queue for frames that go out
 *
 * Frames are of the Ethernet type 88b5, which is for experiments; others are passed over. A loop that waits ends when
 * something is typed.
 */
#include "guest.h"

enum { VENDOR = 0x1af4, LEGACY_NET = 0x1000, MODERN_NET = 0x1041, WINDOW = 0xc0000000, WINDOW_SIZE = 0x100000, IO_BASE = 0xd000 };
enum { COMMON = 1, NOTIFY = 2, ISR = 3, DEVICE = 4 };
enum { ACKNOWLEDGED = 1, HAS_DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
/* Words of features, and bits in them. */
enum { CSUM = 1, HOST_TSO4 = 1 << 11, MAC = 1 << 5, MRG_RXBUF = 1 << 15, STATUS_BIT = 1 << 16, CTRL_VQ = 1 << 17, CTRL_RX = 1 << 18,
       CTRL_VLAN = 1 << 19, GUEST_ANNOUNCE = 1 << 21, MQ = 1 << 22, CTRL_MAC = 1 << 23, VERSION_1 = 1 };
enum { PAIRS = 4, QUEUES = 2 * PAIRS + 1, RING_SIZE = 12288, LARGEST = 256, BUFFERS = 16, BUFFER = 2048, SMALL = 256 };
enum { WRITABLE = 2, TYPE = 0x88b5, HEADER = 14 };

struct descriptor { u64 addr; u32 len; u16 flags, next; };
struct queue {
    struct descriptor *table;
    volatile u16 *available, *used;
    volatile u16 *doorbell;
    u16 size, offered, seen;
};

static u8 rings[QUEUES][RING_SIZE] __attribute__((aligned(4096)));
static u8 buffers[PAIRS][BUFFERS][BUFFER];
static u8 frame[65536], outgoing[65536 + 12], control[512];
static struct queue queues[QUEUES];
static volatile u8 *common, *device;
static u16 ports;
static u32 function, pairs, control_queue, header, buffer_size, config, frame_buffers, frame_queue;

static void copy(void *to, const void *from, u32 length)
{
    for (u32 i = 0; i < length; i++) ((u8 *)to)[i] = ((const u8 *)from)[i];
}

/* ---- the transport --------------------------------------------------------------------------- */

/* The N-th network card, on bus 0 or behind a port of it, reachable at the N-th part of the window. */
static int find(u32 number)
{
    u32 bus = 0, base = WINDOW + number * WINDOW_SIZE;
    for (u32 slot = 0; slot < 256; slot++) {
        u32 id = pci_read(slot, 0);
        function = slot;
        if (id != 0xffffffff && (pci_read(slot, 12) >> 16 & 0x7f) == 1) {
            bus++;
            pci_write(slot, 0x18, bus << 16 | bus << 8);
            id = pci_read(bus << 8, 0);
            if (id == (MODERN_NET << 16 | VENDOR) && !number) {
                pci_write(slot, 0x20, (base >> 16 & 0xfff0) | ((base + WINDOW_SIZE - 1) & 0xfff00000));
                pci_write(slot, 4, 6);
            }
            function = bus << 8;
        }
        if (id != (LEGACY_NET << 16 | VENDOR) && id != (MODERN_NET << 16 | VENDOR)) continue;
        if (number--) continue;
        pci_write(function, 0x20, base), pci_write(function, 0x24, 0);
        if (id == (LEGACY_NET << 16 | VENDOR)) pci_write(function, 0x10, IO_BASE);
        pci_write(function, 4, 7);
        return 1;
    }
    return 0;
}

/* Where the registers of a kind lie; `multiplier` becomes how far doorbells are apart. */
static volatile u8 *registers(u32 kind, u32 *multiplier)
{
    for (u32 at = pci_read(function, 0x34) & 0xfc; at; at = pci_read(function, at) >> 8 & 0xfc) {
        u32 head = pci_read(function, at);
        if ((head & 0xff) != 9 || head >> 24 != kind) continue;
        if (multiplier) *multiplier = pci_read(function, at + 16);
        return (volatile u8 *)((pci_read(function, 0x20) & ~15u) + pci_read(function, at + 8));
    }
    return 0;
}

static void set16(u32 at, u32 value) { *(volatile u16 *)(common + at) = (u16)value; }
static void set32(u32 at, u32 value) { *(volatile u32 *)(common + at) = value; }
static u32 get32(u32 at) { return *(volatile u32 *)(common + at); }

static void set_status(u8 value)
{
    if (common) common[20] = value;
    else outb(ports + 18, value);
}

static u8 get_status(void) { return common ? common[20] : inb(ports + 18); }

static u32 features(u32 word)
{
    if (!common) return word ? 0 : inl(ports);
    set32(0, word);
    return get32(4);
}

static void accept(u32 word, u32 bits)
{
    if (!common) outl(ports + 4, bits);
    else set32(8, word), set32(12, bits);
}

static u8 config8(u32 at) { return common ? device[at] : inb((u16)(ports + 20 + at)); }
static u32 config16(u32 at) { return config8(at) | (u32)config8(at + 1) << 8; }

static int set_up(u32 index)
{
    struct queue *queue = &queues[index];
    u32 size;
    for (u32 i = 0; i < RING_SIZE; i++) rings[index][i] = 0;
    if (common) {
        set16(22, index);
        size = *(volatile u16 *)(common + 24);
        if (size > LARGEST) set16(24, size = LARGEST);
    } else {
        outw(ports + 14, (u16)index);
        size = inw(ports + 12);
    }
    if (!size || size > LARGEST) return 0;
    u32 available = size * 16, used = (available + 6 + 2 * size + 4095) & ~4095u;
    *queue = (struct queue){ (void *)rings[index], (void *)(rings[index] + available), (void *)(rings[index] + used), 0, (u16)size, 0, 0 };
    if (!common) {
        outl(ports + 8, (u32)rings[index] >> 12);
        return 1;
    }
    u32 multiplier, ring = (u32)rings[index];
    volatile u8 *doorbells = registers(NOTIFY, &multiplier);
    queue->doorbell = (volatile u16 *)(doorbells + *(volatile u16 *)(common + 30) * multiplier);
    set32(32, ring), set32(36, 0), set32(40, ring + available), set32(44, 0), set32(48, ring + used), set32(52, 0);
    set16(28, 1);
    return 1;
}

static void ring(u32 index)
{
    __asm__ volatile("lock; addl $0, (%%esp)" : : : "memory");
    if (common) *queues[index].doorbell = (u16)index;
    else outw(ports + 16, (u16)index);
}

static void offer(u32 index, u16 head)
{
    struct queue *queue = &queues[index];
    queue->available[2 + queue->offered % queue->size] = head;
    __asm__ volatile("" : : : "memory");
    queue->available[1] = ++queue->offered;
    ring(index);
}

/* The head of the next buffer that came back, and how much was written there. */
static int came(u32 index, u32 *head, u32 *length)
{
    struct queue *queue = &queues[index];
    if (queue->used[1] == queue->seen) return 0;
    __asm__ volatile("" : : : "memory");
    volatile u32 *entry = (volatile u32 *)(queue->used + 2) + 2 * (queue->seen % queue->size);
    *head = entry[0], *length = entry[1], queue->seen++;
    return 1;
}

/* ---- frames ---------------------------------------------------------------------------------- */

static void give(u32 pair, u32 index)
{
    queues[2 * pair].table[index] = (struct descriptor){ (u32)buffers[pair][index], buffer_size, WRITABLE, 0 };
    offer(2 * pair, (u16)index);
}

/* The next frame of any kind; returns its length, or nothing. */
static u32 take(void)
{
    u32 head, length, total;
    for (frame_queue = 0; frame_queue < pairs; frame_queue++) {
        if (!came(2 * frame_queue, &head, &length)) continue;
        u8 *buffer = buffers[frame_queue][head];
        frame_buffers = header == 12 ? buffer[10] | (u32)buffer[11] << 8 : 1;
        total = length - header;
        copy(frame, buffer + header, total);
        give(frame_queue, head);
        for (u32 i = 1; i < frame_buffers; i++) {
            while (!came(2 * frame_queue, &head, &length)) { }
            copy(frame + total, buffers[frame_queue][head], length);
            total += length;
            give(frame_queue, head);
        }
        return total;
    }
    return 0;
}

static int is_ours(void) { return frame[12] == TYPE >> 8 && frame[13] == (TYPE & 0xff); }

/* Waits for a frame of the test's own type. */
static u32 next_frame(void)
{
    while (!is_typed()) {
        u32 length = take();
        if (length >= HEADER && is_ours()) return length;
    }
    return 0;
}

/* Sends what lies in `outgoing` behind the header, which the caller has filled in. */
static void send(u32 pair, u32 length)
{
    u32 index = 2 * pair + 1, head, written;
    queues[index].table[0] = (struct descriptor){ (u32)outgoing, header + length, 0, 0 };
    offer(index, 0);
    while (!came(index, &head, &written) && !is_typed()) { }
}

static u8 *begin(void)
{
    for (u32 i = 0; i < header; i++) outgoing[i] = 0;
    return outgoing + header;
}

static void own_address(u8 *to)
{
    for (u32 i = 0; i < 6; i++) to[i] = config8(i);
}

static void fill(u8 *data, u32 length, u32 seed)
{
    for (u32 i = 0; i < 6; i++) data[i] = 0xff;
    own_address(data + 6);
    data[12] = TYPE >> 8, data[13] = TYPE & 0xff;
    for (u32 i = HEADER; i < length; i++) data[i] = (u8)(i * 7 + seed);
}

static u32 sum(const u8 *data, u32 length)
{
    u32 sum = 0;
    while (length--) sum = sum * 31 + *data++;
    return sum;
}

static void print_address(const u8 *address)
{
    for (u32 i = 0; i < 6; i++) hex(address[i], 2), print(i < 5 ? ":" : "");
}

/* ---- commands -------------------------------------------------------------------------------- */

static int has(const char *letters, char letter)
{
    while (*letters && *letters != letter) letters++;
    return *letters == letter;
}

static void start(const char *line)
{
    u32 legacy = has(line, 'l');
    common = 0;
    if (!find(number(line))) {
        print("NO CARD\n");
        return;
    }
    ports = IO_BASE;
    if (!legacy) common = registers(COMMON, 0), device = registers(DEVICE, 0);
    set_status(0);
    while (get_status()) { }
    set_status(ACKNOWLEDGED | HAS_DRIVER);
    u32 low = features(0), high = features(1), wanted = MAC | STATUS_BIT | CTRL_VQ | CTRL_RX | CTRL_VLAN | CTRL_MAC | GUEST_ANNOUNCE;
    if (has(line, 'm')) wanted |= MRG_RXBUF;
    if (has(line, 'q')) wanted |= MQ;
    if (has(line, 'o')) wanted |= CSUM | HOST_TSO4;
    wanted &= low;
    accept(0, wanted);
    if (!legacy) {
        accept(1, VERSION_1);
        set_status(ACKNOWLEDGED | HAS_DRIVER | FEATURES_OK);
        if (!(get_status() & FEATURES_OK)) {
            print("REFUSED\n");
            return;
        }
    }
    header = legacy && !(wanted & MRG_RXBUF) ? 10 : 12;
    buffer_size = wanted & MRG_RXBUF ? SMALL : BUFFER;
    pairs = wanted & MQ ? config16(8) : 1;
    if (pairs > PAIRS) pairs = PAIRS;
    control_queue = 2 * pairs;
    for (u32 index = 0; index <= control_queue; index++) {
        if (set_up(index)) continue;
        print("NO QUEUE "), decimal(index), print("\n");
        return;
    }
    set_status(ACKNOWLEDGED | HAS_DRIVER | DRIVER_OK | (legacy ? 0 : FEATURES_OK));
    for (u32 pair = 0; pair < pairs; pair++)
        for (u32 index = 0; index < BUFFERS; index++) give(pair, index);
    u8 address[6];
    own_address(address);
    print("CARD "), print_address(address);
    print(" status "), decimal(config16(6));
    print(" pairs "), decimal(wanted & MQ ? config16(8) : 1);
    print(" features "), hex(high, 8), print("."), hex(low, 8), print("\n");
    config = config16(6);
}

static void send_some(const char *line)
{
    u32 length = number(line);
    while (*line >= '0' && *line <= '9') line++;
    u8 *data = begin();
    fill(data, length, 1);
    send(number(line), length);
    print("SENT "), hex(sum(data, length), 8), print("\n");
}

static void word(u8 *at, u32 value) { at[0] = (u8)(value >> 8), at[1] = (u8)value; }

/* A frame of IPv4 and TCP, the checksum of the latter left to the other side, and the cutting into parts of 1000 bytes. */
static void send_segments(const char *line)
{
    u32 payload = number(line), ip_header = 20, tcp_header = 20, total = ip_header + tcp_header + payload, ip_sum = 0;
    u8 *data = begin(), *ip = data + HEADER, *tcp = ip + ip_header;
    fill(data, HEADER + total, 1);
    word(data + 12, 0x800);
    for (u32 i = 0; i < ip_header + tcp_header; i++) ip[i] = 0;
    ip[0] = 0x45, word(ip + 2, total), ip[8] = 64, ip[9] = 6;
    ip[12] = 10, ip[15] = 1, ip[16] = 10, ip[19] = 2;
    for (u32 i = 0; i < ip_header; i += 2) ip_sum += (u32)ip[i] << 8 | ip[i + 1];
    while (ip_sum >> 16) ip_sum = (ip_sum & 0xffff) + (ip_sum >> 16);
    word(ip + 10, ~ip_sum);
    word(tcp, 1), word(tcp + 2, 2), tcp[12] = 0x50, tcp[13] = 0x10;
    u32 tcp_sum = 2 * 0xa00 + 1 + 2 + 6 + tcp_header + payload;
    while (tcp_sum >> 16) tcp_sum = (tcp_sum & 0xffff) + (tcp_sum >> 16);
    word(tcp + 16, tcp_sum);
    /* NEEDS_CSUM, TCPV4, length of the headers, size of a segment, where the checksum begins and goes. */
    outgoing[0] = 1, outgoing[1] = 1, outgoing[2] = (u8)(HEADER + ip_header + tcp_header);
    outgoing[4] = 1000 & 0xff, outgoing[5] = 1000 >> 8, outgoing[6] = (u8)(HEADER + ip_header), outgoing[8] = 16;
    send(0, HEADER + total);
    print("SENT\n");
}

static void print_frame(void)
{
    u32 length = next_frame();
    print("FRAME "), decimal(length);
    print(" to "), print_address(frame), print(" from "), print_address(frame + 6);
    print(" sum "), hex(sum(frame, length), 8);
    print(" buffers "), decimal(frame_buffers), print(" queue "), decimal(frame_queue), print("\n");
}

static void echo(void)
{
    u32 count = 0, length;
    print("ECHOING\n");
    while ((length = next_frame())) {
        u8 *data = begin();
        copy(data, frame, length);
        copy(data, frame + 6, 6);
        own_address(data + 6);
        send(0, length);
        count++;
    }
    print("ECHOED "), decimal(count), print("\n");
}

static void ping(const char *line)
{
    u32 count = number(line), size, wrong = 0, done = 0;
    while (*line >= '0' && *line <= '9') line++;
    size = number(line);
    for (; done < count && !is_typed(); done++) {
        u8 *data = begin();
        fill(data, size, done);
        send(0, size);
        u32 length = next_frame();
        if (length != size || sum(frame + HEADER, size - HEADER) != sum(data + HEADER, size - HEADER)) wrong++;
    }
    print("PINGS "), decimal(done), print(" wrong "), decimal(wrong), print("\n");
}

static u32 digit(char c) { return (u32)(c <= '9' ? c - '0' : c - 'a' + 10); }

static void command(const char *line)
{
    u32 length = 0, head, written;
    struct descriptor *table = queues[control_queue].table;
    while (line[0] && line[1]) control[length++] = (u8)(digit(line[0]) << 4 | digit(line[1])), line += 2;
    control[length] = 0xff;
    table[0] = (struct descriptor){ (u32)control, length, 1, 1 };
    table[1] = (struct descriptor){ (u32)control + length, 1, WRITABLE, 0 };
    offer(control_queue, 0);
    while (!came(control_queue, &head, &written) && !is_typed()) { }
    print("ACK "), decimal(control[length]), print("\n");
}

static void print_status(void)
{
    print("STATUS "), hex(get_status(), 2), print(" config "), decimal(config16(6)), print("\n");
}

/* Offers a descriptor that the ring does not have. */
static void break_queue(void)
{
    offer(1, 0x7fff);
    print("BROKEN\n");
}

void run_net(const char *line)
{
    const char *rest = line[0] && line[1] ? line + 2 : "";
    switch (line[0]) {
    case 'i': start(rest); break;
    case 's': send_some(rest); break;
    case 'g': send_segments(rest); break;
    case 'r': print_frame(); break;
    case 'e': echo(); break;
    case 'p': ping(rest); break;
    case 'c': command(rest); break;
    case 't': print_status(); break;
    case 'b': break_queue(); break;
    default: print("UNKNOWN\n");
    }
}
