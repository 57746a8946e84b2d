#include "base/privilege.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/panic.h"

/* Version 3 has sets of 64 bits, in two halves. */
enum { HALVES = _LINUX_CAPABILITY_U32S_3 };

static bool capabilities_get(struct __user_cap_data_struct sets[HALVES]) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &head, sets) == 0;
}

bool privilege_keep(uint64_t kept, struct fault *fault) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[HALVES];
    bool fine = capabilities_get(sets);
    bool less = false;
    for (unsigned i = 0; fine && i < HALVES; i++) {
        uint32_t now = sets[i].permitted & (uint32_t)(kept >> (32 * i));
        less |= now != sets[i].permitted || now != sets[i].effective || sets[i].inheritable != 0;
        sets[i] = (struct __user_cap_data_struct){.effective = now, .permitted = now};
    }
    /* Who has none asks for nothing: a container may forbid the call. */
    if (fine && less) fine = syscall(SYS_capset, &head, sets) == 0;
    return fine || fault_set(fault, FAULT_INSUFFICIENT_RESOURCES,
                             "sandbox: capabilities cannot be given up: %s", strerror(errno));
}

bool privilege_hide_files(struct fault *fault) {
    static const char *const places[] = {"/tmp", "/run", "/dev/shm", ""};
    struct __user_cap_data_struct sets[HALVES];
    char path[48];
    if (!capabilities_get(sets) || (sets[0].effective & PRIVILEGE(CAP_SYS_CHROOT)) == 0)
        return true;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, sizeof path, "%s/.wick-%d", places[i], (int)getpid());
        if (mkdir(path, 0500) != 0) continue; /* if somebody else has made it, it is not ours */
        bool inside = chdir(path) == 0;
        rmdir(path);
        if (inside && chroot(".") == 0) return true;
    }
    return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES,
                     "sandbox: files cannot be hidden: %s; make /tmp writable", strerror(errno));
}
