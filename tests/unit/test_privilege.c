#include <criterion/criterion.h>
#include <dirent.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/privilege.h"

enum { FINE = 42 };

static uint64_t capabilities(void) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    cr_assert_eq(syscall(SYS_capget, &head, sets), 0);
    cr_expect_eq(sets[0].effective, sets[0].permitted);
    return sets[0].permitted | (uint64_t)sets[1].permitted << 32;
}

/* In a child: there is no way back. */
static void check_child(bool (*claim)(void)) {
    pid_t child = fork();
    if (child == 0) syscall(SYS_exit_group, claim() ? FINE : 1);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == FINE, "status 0x%x", (unsigned)status);
}

static bool keeps_what_it_is_told(void) {
    struct fault fault;
    uint64_t had = capabilities(), kept = PRIVILEGE(CAP_SYS_BOOT) | PRIVILEGE(CAP_SYSLOG);
    if (!privilege_keep(kept, &fault) || capabilities() != (had & kept)) return false;
    /* What is gone is gone. */
    return privilege_keep(UINT64_MAX, &fault) && capabilities() == (had & kept);
}

Test(privilege, a_thread_keeps_the_capabilities_that_it_is_told_and_no_other) {
    check_child(keeps_what_it_is_told);
}

static bool keeps_none(void) {
    struct fault fault;
    return privilege_keep(0, &fault) && capabilities() == 0 && privilege_keep(0, &fault);
}

Test(privilege, none_can_be_kept_and_none_can_be_had_already) {
    check_child(keeps_none);
}

static bool sees_nothing(void) {
    struct fault fault;
    struct stat status;
    if (!privilege_hide_files(&fault)) return false;
    /* A directory that is no more: nothing is in it, and nothing can be put there. */
    return stat("/tmp", &status) != 0 && stat("/proc", &status) != 0 && stat("..", &status) == 0 &&
           mkdir("/new", 0700) != 0 && stat("/", &status) == 0 && status.st_nlink == 0;
}

Test(privilege, no_path_leads_to_a_file_that_is_hidden) {
    if (geteuid() != 0) cr_skip_test("chroot needs root");
    check_child(sees_nothing);
}
