/* Loaded with LD_PRELOAD, makes a program take its host for an S390: libvirt asks uname before it offers the host's CPU. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/utsname.h>

int uname(struct utsname *to)
{
    static int (*next)(struct utsname *);
    int result;
    if (!next)
        next = dlsym(RTLD_NEXT, "uname");
    result = next(to);
    if (!result)
        strcpy(to->machine, "s390x");
    return result;
}
