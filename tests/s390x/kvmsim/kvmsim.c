/*
 * A simulated /dev/kvm of an S390 host, to be loaded into a process with LD_PRELOAD.
 *
 * KVMSIM_HOST names the host: a file that describe.py makes of a host description. KVMSIM_LOG names a file that gets one line
 * for each thing the process asked of the kernel that changes or reads the CPU model, with the outcome.
 *
 * The rules are those of Linux arch/s390/kvm/kvm-s390.c: what widens a VM, what is refused after the first vCPU, what is
 * checked and what is stored unchecked, and how the instruction blocking control is clamped. Beyond them it ends the process
 * where a kernel would not notice: reserved bytes that are not zero, payloads of another size than the attribute's, and
 * reading the machine before all it could offer is enabled.
 *
 * Descriptors are real ones (of empty memory files), so that mapping, duplicating and closing need no help.
 *
 * The user-mode emulator that the process runs under has a thread of its own; it is left out of the count of threads.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FD 1024
#define MAX_CAPS 64
#define RUN_BYTES 4096

enum kind { NOTHING, SYSTEM, VM, VCPU };

struct host {
    uint32_t flags; /* 1: CMMA, 2: APIE, 4: ultravisor features */
    uint32_t cap_count;
    uint32_t caps[MAX_CAPS];
    struct {
        uint64_t cpuid;
        uint32_t ibc;
        uint8_t pad[4];
        uint64_t fac_mask[256];
        uint64_t fac_list[256];
    } machine;
    uint64_t feat[16];
    uint8_t subfunc[2048];
    uint64_t uv;
};

struct processor {
    uint64_t cpuid;
    uint16_t ibc;
    uint8_t pad[6];
    uint64_t fac_list[256];
};

struct vm {
    uint32_t enabled[MAX_CAPS];
    int enabled_count;
    int vcpus;
    struct processor processor;
    uint64_t feat[16];
    uint8_t subfunc[2048];
    uint64_t uv;
};

_Static_assert(sizeof(struct processor) == 2064, "PROCESSOR");
_Static_assert(sizeof(((struct host *)0)->machine) == 4112, "MACHINE");

static enum kind kinds[MAX_FD];
static struct vm *vms[MAX_FD];
static struct host host;
static FILE *log_file;

static void die(const char *what)
{
    fprintf(stderr, "kvmsim: %s\n", what);
    _exit(99);
}

static void note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(log_file, format, arguments);
    fputc('\n', log_file);
    fflush(log_file);
    va_end(arguments);
}

static void read_or_die(FILE *file, void *into, size_t bytes)
{
    if (fread(into, 1, bytes, file) != bytes)
        die("KVMSIM_HOST is too short");
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("KVMSIM_HOST"), *log = getenv("KVMSIM_LOG");
    char magic[8];
    FILE *file;
    if (!path || !log)
        die("KVMSIM_HOST and KVMSIM_LOG must be set");
    file = fopen(path, "r");
    log_file = fopen(log, "a");
    if (!file || !log_file)
        die("KVMSIM_HOST or KVMSIM_LOG cannot be opened");
    read_or_die(file, magic, 8);
    if (memcmp(magic, "KVMSIM1\n", 8))
        die("KVMSIM_HOST is not a host");
    read_or_die(file, &host.flags, 4);
    read_or_die(file, &host.cap_count, 4);
    host.flags = be32toh(host.flags);
    host.cap_count = be32toh(host.cap_count);
    if (host.cap_count > MAX_CAPS)
        die("too many capabilities");
    for (uint32_t i = 0; i < host.cap_count; i++) {
        read_or_die(file, &host.caps[i], 4);
        host.caps[i] = be32toh(host.caps[i]);
    }
    /* From here on everything is stored as the kernel stores it: big-endian, whatever this process is. */
    read_or_die(file, &host.machine, sizeof host.machine);
    read_or_die(file, host.feat, sizeof host.feat);
    read_or_die(file, host.subfunc, sizeof host.subfunc);
    read_or_die(file, &host.uv, sizeof host.uv);
    fclose(file);
}

static int new_fd(const char *name, enum kind kind)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0 || fd >= MAX_FD || ftruncate(fd, RUN_BYTES))
        die("no descriptor");
    kinds[fd] = kind;
    return fd;
}

static int fail(int error)
{
    errno = error;
    return -1;
}

static int has_cap(uint32_t cap)
{
    for (uint32_t i = 0; i < host.cap_count; i++)
        if (host.caps[i] == cap)
            return 1;
    return 0;
}

static int is_enabled(const struct vm *vm, uint32_t cap)
{
    for (int i = 0; i < vm->enabled_count; i++)
        if (vm->enabled[i] == cap)
            return 1;
    return 0;
}

/* Facilities that a capability adds, ended by -1; none for one that adds no facilities. */
static const int *widens(uint32_t cap)
{
    static const int vector[] = {129, 134, 135, 148, 152, 192, 198, 199, -1}, ri[] = {64, -1}, gs[] = {133, -1},
                     ais[] = {72, -1}, topology[] = {11, -1};
    switch (cap) {
    case 107: return vector;
    case 124: return ri;
    case 140: return gs;
    case 141: return ais;
    case 222: return topology;
    default: return NULL;
    }
}

static int enable_cap(struct vm *vm, const uint8_t *argument)
{
    static const uint8_t zeros[104];
    uint32_t cap;
    memcpy(&cap, argument, 4);
    if (memcmp(argument + 4, zeros, 100))
        die("KVM_ENABLE_CAP with flags, arguments or reserved bytes");
    if (!has_cap(cap)) {
        note("enable %u EINVAL", cap);
        return fail(EINVAL);
    }
    if (vm->vcpus && widens(cap)) {
        note("enable %u EBUSY", cap);
        return fail(EBUSY);
    }
    if (vm->enabled_count < MAX_CAPS)
        vm->enabled[vm->enabled_count++] = cap;
    note("enable %u", cap);
    return 0;
}

static int has_attr(uint32_t group, uint64_t attr)
{
    if (group == 0 && attr == 0)
        return host.flags & 1;
    if (group == 2 && attr == 4)
        return host.flags & 2;
    if (group == 3 && attr >= 6)
        return attr <= 7 && host.flags & 4;
    return group == 3;
}

/*
 * The kernel copies as many bytes as the attribute has, whatever lies there. We see more: a payload is an allocation of
 * its own, of which malloc knows the size; it may be longer by the alignment and by a rest too short to be a chunk.
 */
static void check_size(uint64_t attr, const void *payload)
{
    static const size_t bytes[] = {2064, 4112, 128, 128, 2048, 2048, 8, 8};
    size_t size = malloc_usable_size((void *)payload);
    if (attr > 7 || size < bytes[attr] || size > bytes[attr] + 48)
        die("a payload of the wrong size");
}

static int get_attr(struct vm *vm, uint32_t group, uint64_t attr, void *to)
{
    if (group != 3 || !has_attr(group, attr))
        return fail(ENXIO);
    check_size(attr, to);
    note("get %llu", (unsigned long long)attr);
    switch (attr) {
    case 0: memcpy(to, &vm->processor, sizeof vm->processor); break;
    case 1: {
        uint8_t *mask = (uint8_t *)to + 16;
        memcpy(to, &host.machine, sizeof host.machine);
        for (uint32_t i = 0; i < host.cap_count; i++) {
            const int *number = widens(host.caps[i]);
            if (!number || is_enabled(vm, host.caps[i]))
                continue;
            if (host.caps[i] != 141 || has_cap(150))
                die("the machine is read before a capability that widens it is enabled");
            for (; *number >= 0; number++)
                mask[*number / 8] &= ~(0x80 >> *number % 8);
        }
        break;
    }
    case 2: memcpy(to, vm->feat, sizeof vm->feat); break;
    case 3: memcpy(to, host.feat, sizeof host.feat); break;
    case 4: memcpy(to, vm->subfunc, sizeof vm->subfunc); break;
    case 5: memcpy(to, host.subfunc, sizeof host.subfunc); break;
    case 6: memcpy(to, &vm->uv, 8); break;
    case 7: memcpy(to, &host.uv, 8); break;
    }
    return 0;
}

static int set_processor(struct vm *vm, const void *from)
{
    static const uint8_t zeros[6];
    struct processor *to = &vm->processor;
    uint16_t lowest = be32toh(host.machine.ibc) >> 16 & 0xfff, unblocked = be32toh(host.machine.ibc) & 0xfff, asked, ibc;
    uint16_t before = to->ibc;
    const uint8_t *list = (const uint8_t *)from + 16;
    memcpy(to, from, sizeof *to);
    if (memcmp(to->pad, zeros, 6))
        die("PROCESSOR with reserved bytes");
    asked = be16toh(to->ibc);
    ibc = asked;
    if (asked == 0)
        ibc = be16toh(before);
    else if (lowest && asked > unblocked)
        ibc = unblocked;
    else if (lowest && asked < lowest)
        ibc = lowest;
    to->ibc = htobe16(ibc);
    fprintf(log_file, "processor cpuid=%016llx ibc=%03x>%03x facilities=", (unsigned long long)be64toh(to->cpuid), asked, ibc);
    for (int number = 0, first = 1; number < 16384; number++)
        if (list[number / 8] & 0x80 >> number % 8)
            fprintf(log_file, "%s%d", first ? "" : ",", number), first = 0;
    note("");
    return 0;
}

static int set_attr(struct vm *vm, uint32_t group, uint64_t attr, const void *from)
{
    if (!has_attr(group, attr) || (group == 3 && attr % 2)) {
        note("set %u/%llu ENXIO", group, (unsigned long long)attr);
        return fail(ENXIO);
    }
    if (vm->vcpus) {
        note("set %u/%llu EBUSY", group, (unsigned long long)attr);
        return fail(EBUSY);
    }
    note("set %u/%llu", group, (unsigned long long)attr);
    if (group != 3)
        return 0;
    check_size(attr, from);
    switch (attr) {
    case 0: return set_processor(vm, from);
    case 2:
        for (int i = 0; i < 16; i++)
            if (((const uint64_t *)from)[i] & ~host.feat[i])
                return note("feat EINVAL"), fail(EINVAL);
        memcpy(vm->feat, from, sizeof vm->feat);
        return 0;
    case 4: memcpy(vm->subfunc, from, sizeof vm->subfunc); return 0;
    default:
        if (*(const uint64_t *)from & ~host.uv)
            return note("uv EINVAL"), fail(EINVAL);
        vm->uv = *(const uint64_t *)from;
        return 0;
    }
}

static int system_ioctl(unsigned long request, unsigned long argument)
{
    switch (request) {
    case 0xae00: return 12;
    case 0xae01: {
        int fd = new_fd("kvm-vm", VM);
        if (argument)
            die("KVM_CREATE_VM of another kind than 0");
        vms[fd] = calloc(1, sizeof *vms[fd]);
        if (!vms[fd])
            die("no memory");
        vms[fd]->processor.cpuid = host.machine.cpuid;
        vms[fd]->processor.ibc = htobe16(be32toh(host.machine.ibc) & 0xfff);
        note("create vm");
        return fd;
    }
    case 0xae03: return argument == 66 ? 248 : has_cap(argument);
    case 0xae04: return RUN_BYTES;
    default: return fail(ENOTTY);
    }
}

static int vm_ioctl(struct vm *vm, unsigned long request, unsigned long argument)
{
    struct {
        uint32_t flags, group;
        uint64_t attr, addr;
    } device_attr;
    switch (request) {
    case 0xae03: return system_ioctl(request, argument);
    case 0xae41:
        vm->vcpus++;
        note("create vcpu %lu", argument);
        return new_fd("kvm-vcpu", VCPU);
    case 0x4068aea3: return enable_cap(vm, (const uint8_t *)argument);
    case 0x4018aee1:
    case 0x4018aee2:
    case 0x4018aee3:
        memcpy(&device_attr, (const void *)argument, sizeof device_attr);
        if (device_attr.flags)
            die("a device attribute with flags");
        if (request == 0x4018aee3)
            return has_attr(device_attr.group, device_attr.attr) ? 0 : fail(ENXIO);
        if (request == 0x4018aee2)
            return get_attr(vm, device_attr.group, device_attr.attr, (void *)(uintptr_t)device_attr.addr);
        return set_attr(vm, device_attr.group, device_attr.attr, (const void *)(uintptr_t)device_attr.addr);
    case 0x4020ae46: return 0; /* KVM_SET_USER_MEMORY_REGION */
    default: return fail(ENOTTY);
    }
}

int ioctl(int fd, unsigned long request, ...)
{
    static int (*next)(int, unsigned long, ...);
    unsigned long argument;
    va_list arguments;
    va_start(arguments, request);
    argument = va_arg(arguments, unsigned long);
    va_end(arguments);
    switch (fd >= 0 && fd < MAX_FD ? kinds[fd] : NOTHING) {
    case SYSTEM: return system_ioctl(request, argument);
    case VM: return vm_ioctl(vms[fd], request, argument);
    case VCPU: return fail(ENOTTY);
    default: break;
    }
    if (!next)
        next = dlsym(RTLD_NEXT, "ioctl");
    return next(fd, request, argument);
}

int close(int fd)
{
    static int (*next)(int);
    if (fd >= 0 && fd < MAX_FD && kinds[fd]) {
        kinds[fd] = NOTHING;
        free(vms[fd]);
        vms[fd] = NULL;
    }
    if (!next)
        next = dlsym(RTLD_NEXT, "close");
    return next(fd);
}

static int is_kvm(const char *path)
{
    return path && !strcmp(path, "/dev/kvm");
}

#define OPENER(name)                                                       \
    int name(const char *path, int flags, ...)                             \
    {                                                                      \
        static int (*next)(const char *, int, ...);                        \
        va_list arguments;                                                 \
        mode_t mode;                                                       \
        va_start(arguments, flags);                                        \
        mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0; \
        va_end(arguments);                                                 \
        if (is_kvm(path))                                                  \
            return new_fd("kvm", SYSTEM);                                  \
        if (!next)                                                         \
            next = dlsym(RTLD_NEXT, #name);                                \
        return next(path, flags, mode);                                    \
    }

OPENER(open)
OPENER(open64)

int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *to)
{
    static int (*next)(int, const char *, int, unsigned, struct statx *);
    int result;
    if (!next)
        next = dlsym(RTLD_NEXT, "statx");
    result = next(dirfd, path, flags, mask, to);
    if (!result && !strcmp(path, "/proc/self/task") && to->stx_nlink > 3)
        to->stx_nlink--;
    return result;
}
