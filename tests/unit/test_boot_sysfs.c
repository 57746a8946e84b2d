#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text_file.h"
#include "boot/consoles.h"
#include "boot/counter.h"
#include "boot/disk.h"
#include "boot/duties.h"
#include "boot/nodes.h"
#include "boot/sysfs.h"

/* --- sysfs ---------------------------------------------------------------------------------- */

Test(boot_sysfs, names_are_in_natural_order) {
    static const char *const order[] = {"nvme0n1", "nvme0n1p2", "nvme0n1p10", "nvme2n1", "nvme10n1",
                                        "vda",     "vda1",      "vda02",      "vdb",     "vdba"};
    for (size_t i = 0; i + 1 < sizeof order / sizeof *order; i++) {
        cr_expect_lt(sysfs_name_compare(order[i], order[i + 1]), 0, "%s %s", order[i],
                     order[i + 1]);
        cr_expect_gt(sysfs_name_compare(order[i + 1], order[i]), 0, "%s %s", order[i],
                     order[i + 1]);
        cr_expect_eq(sysfs_name_compare(order[i], order[i]), 0);
    }
}

Test(boot_sysfs, a_directory_is_listed_in_order_without_hidden_names) {
    char path[] = "/tmp/wick-test-XXXXXX";
    cr_assert_not_null(mkdtemp(path));
    static const char *const names[] = {"vdb", "vda10", ".hidden", "vda2"};
    char file[128];
    for (size_t i = 0; i < 4; i++) {
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        cr_assert(close(open(file, O_CREAT | O_WRONLY, 0600)) == 0);
    }
    struct sysfs_names listed;
    cr_assert(sysfs_list(path, &listed));
    cr_assert_eq(listed.n, 3);
    cr_assert_str_eq(listed.name[0], "vda2");
    cr_assert_str_eq(listed.name[1], "vda10");
    cr_assert_str_eq(listed.name[2], "vdb");
    for (size_t i = 0; i < 4; i++) {
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        unlink(file);
    }
    rmdir(path);
    cr_assert_not(sysfs_list(path, &listed));
}

Test(boot_sysfs, more_names_than_fit_keep_the_list_sorted_and_bounded) {
    char path[] = "/tmp/wick-test-XXXXXX";
    cr_assert_not_null(mkdtemp(path));
    char file[128];
    for (int i = 0; i < 100; i++) {
        snprintf(file, sizeof file, "%s/d%d", path, i);
        mkdir(file, 0700);
    }
    struct sysfs_names listed;
    cr_assert(sysfs_list(path, &listed));
    cr_assert_eq(listed.n, 64);
    for (unsigned i = 0; i + 1 < listed.n; i++) {
        cr_expect_lt(sysfs_name_compare(listed.name[i], listed.name[i + 1]), 0);
    }
    for (int i = 0; i < 100; i++) {
        snprintf(file, sizeof file, "%s/d%d", path, i);
        rmdir(file);
    }
    rmdir(path);
}

Test(boot_sysfs, a_file_is_read_up_to_the_buffer_and_loses_its_newline) {
    char path[] = "/tmp/wick-test-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(write(fd, "4096\n", 5) == 5);
    close(fd);
    char text[16];
    cr_assert_eq(text_file_read(path, text, sizeof text), 4);
    cr_assert_str_eq(text, "4096");
    cr_assert_eq(text_file_read(path, text, 3), 2);
    cr_assert_str_eq(text, "40");
    cr_assert(sysfs_write(path, "12"));
    cr_assert_eq(text_file_read(path, text, sizeof text), 4);
    cr_assert_str_eq(text, "1296");
    unlink(path);
    cr_assert_eq(text_file_read(path, text, sizeof text), -1);
    cr_assert_not(sysfs_write(path, "1"));
}

Test(boot_sysfs, uevent_value_is_that_of_the_whole_name) {
    static const char uevent[] =
        "MAJOR=254\nDEVNAME=vda2\nXPARTNAME=no\nPARTNAME=the model\nPARTN=2";
    char value[16];
    cr_assert(sysfs_uevent_find(uevent, "PARTNAME", value, sizeof value));
    cr_assert_str_eq(value, "the model");
    cr_assert(sysfs_uevent_find(uevent, "PARTN", value, sizeof value));
    cr_assert_str_eq(value, "2");
    cr_assert_not(sysfs_uevent_find(uevent, "PART", value, sizeof value));
    cr_assert_not(sysfs_uevent_find(uevent, "PARTNAME", value, 9)); /* no room */
    cr_assert_not(sysfs_uevent_find("", "PARTNAME", value, sizeof value));
}

/* --- disk ----------------------------------------------------------------------------------- */

static const struct disks some_disks = {.n = 6,
                                        .disk = {{.name = "sr0", .failed = true},
                                                 {.name = "vda"},
                                                 {.name = "vda1", .label = "boot"},
                                                 {.name = "vda2", .label = "tales", .gguf = 3},
                                                 {.name = "vdb", .gguf = 3},
                                                 {.name = "vdc", .gguf = 2}}};

static const char *name_of(const struct disks *disks, const char *model, unsigned *others) {
    const struct disk *disk = disk_choose(disks, model, others);
    return disk == NULL ? "none" : disk->name;
}

Test(boot_disk, auto_takes_the_first_that_begins_with_gguf) {
    unsigned others;
    cr_assert_str_eq(name_of(&some_disks, "auto", &others), "vda2");
    cr_assert_eq(others, 2);
}

Test(boot_disk, a_label_is_compared_whole) {
    unsigned others;
    cr_assert_str_eq(name_of(&some_disks, "label:tales", &others), "vda2");
    cr_assert_eq(others, 0);
    cr_assert_str_eq(name_of(&some_disks, "label:boot", &others), "vda1");
    cr_assert_str_eq(name_of(&some_disks, "label:tale", &others), "none");
}

Test(boot_disk, a_version_that_is_not_read_is_the_last_choice) {
    struct disks disks = {.n = 3, .disk = {{.name = "vda", .gguf = 77}, {.name = "vdb"}}};
    unsigned others;
    cr_assert_str_eq(name_of(&disks, "auto", &others), "vda");
    disks.disk[2] = (struct disk){.name = "vdc", .gguf = 3};
    cr_assert_str_eq(name_of(&disks, "auto", &others), "vdc");
    cr_assert_eq(others, 0);
}

Test(boot_disk, no_disk_is_none) {
    unsigned others;
    const struct disks disks = {.n = 0};
    cr_assert_str_eq(name_of(&disks, "auto", &others), "none");
}

/* --- consoles ------------------------------------------------------------------------------- */

Test(boot_consoles, the_kernels_consoles_are_told_by_their_whole_name) {
    static const char consoles[] = "ttyS0                -W- (EC p a)    4:64\n"
                                   "tty0                 -WU (E  p  )    4:1\n";
    cr_assert(consoles_have(consoles, "/dev/ttyS0"));
    cr_assert(consoles_have(consoles, "/dev/tty0"));
    cr_assert_not(consoles_have(consoles, "/dev/ttyS"));
    cr_assert_not(consoles_have(consoles, "/dev/ttyS01"));
    cr_assert_not(consoles_have(consoles, "/dev/hvc0"));
    cr_assert_not(consoles_have(consoles, "ttyS0"));
    cr_assert_not(consoles_have("", "/dev/ttyS0"));
}

Test(boot_consoles, the_path_of_a_tty_ends_before_its_speed) {
    char path[16];
    cr_assert(console_path("tty:/dev/ttyS1,115200", path, sizeof path));
    cr_assert_str_eq(path, "/dev/ttyS1");
    cr_assert(console_path("tty:/dev/hvc0", path, sizeof path));
    cr_assert_str_eq(path, "/dev/hvc0");
    cr_assert_not(console_path("tcp:0.0.0.0:7411", path, sizeof path));
    cr_assert_not(console_path("tty:", path, sizeof path));
    cr_assert_not(console_path("tty:/dev/serial/by-id/x", path, sizeof path)); /* no room */
}

/* --- nodes ---------------------------------------------------------------------------------- */

Test(boot_nodes, a_driver_is_found_by_its_whole_name_among_character_devices) {
    static const char devices[] = "Character devices:\n  1 mem\n195 nvidia\n510 nvidia-uvm\n"
                                  "511 nvidia-caps\n\nBlock devices:\n259 blkext\n254 virtblk\n";
    cr_assert_eq(nodes_major(devices, "mem"), 1);
    cr_assert_eq(nodes_major(devices, "nvidia"), 195);
    cr_assert_eq(nodes_major(devices, "nvidia-uvm"), 510);
    cr_assert_eq(nodes_major(devices, "nvidia-frontend"), -1);
    cr_assert_eq(nodes_major(devices, "virtblk"), -1);
    cr_assert_eq(nodes_major("", "nvidia"), -1);
}

Test(boot_nodes, the_minor_of_a_gpu_is_what_the_driver_says) {
    cr_assert_eq(nodes_gpu_minor("Model: \t\t NVIDIA H200\nDevice Minor: \t 3\nGPU UUID: x\n"), 3);
    cr_assert_eq(nodes_gpu_minor("Model: x\n"), -1);
    cr_assert_eq(nodes_gpu_minor("Device Minor:"), -1);
}

/* --- counter -------------------------------------------------------------------------------- */

Test(boot_counter, a_count_comes_back_and_noise_is_zero) {
    uint8_t bytes[COUNTER_BYTES];
    for (int n = 0; n < 256; n++) {
        counter_encode((uint8_t)n, bytes);
        cr_expect_eq(counter_decode(bytes), n);
        for (int i = 0; i < COUNTER_BYTES; i++) {
            bytes[i] ^= 0x10;
            cr_expect_eq(counter_decode(bytes), 0, "%d, byte %d", n, i);
            bytes[i] ^= 0x10;
        }
    }
    static const uint8_t zeros[COUNTER_BYTES] = {0};
    static const uint8_t ones[COUNTER_BYTES] = {255, 255, 255};
    cr_assert_eq(counter_decode(zeros), 0);
    cr_assert_eq(counter_decode(ones), 0);
}

/* --- the kernel's log ----------------------------------------------------------------------- */

static const char *tidy(const char *text) {
    static char copy[256];
    strcpy(copy, text);
    copy[kernel_log_tidy(copy, strlen(copy))] = '\0';
    return copy;
}

Test(boot_log, levels_in_front_of_the_lines_are_taken_off) {
    cr_assert_str_eq(tidy("<6>[    1.0] one\n<4>[    2.0] two <3>\n"),
                     "[    1.0] one\n[    2.0] two <3>\n");
    cr_assert_str_eq(tidy("<14>[    1.0] wick info ready\n<6>last"),
                     "[    1.0] wick info ready\nlast");
}

Test(boot_log, a_first_line_that_lost_its_beginning_is_left_out) {
    cr_assert_str_eq(tidy("f the line\n<6>whole\n"), "whole\n");
    cr_assert_str_eq(tidy("no line at all"), "");
    cr_assert_str_eq(tidy(""), "");
}

static const char *masked(const char *text) {
    static char copy[256];
    strcpy(copy, text);
    kernel_log_mask(copy, strlen(copy));
    return copy;
}

Test(boot_log, keys_of_the_command_line_are_masked_and_nothing_else) {
    cr_expect_str_eq(
        masked("Kernel command line: quiet wick.key=abc wick.slots=4 panic=-1\nkey=1\n"),
        "Kernel command line: quiet wick.key=*** wick.slots=4 panic=-1\nkey=1\n");
    cr_expect_str_eq(masked("wick.observer-key=12 wick.observer_key=\"12\" x"),
                     "wick.observer-key=** wick.observer_key=**** x");
    cr_expect_str_eq(masked("Unknown parameters \"wick.key=12 a\""),
                     "Unknown parameters \"wick.key=** a\"");
    cr_expect_str_eq(masked("wick.key="), "wick.key=");
    cr_expect_str_eq(masked("wick.key=end"), "wick.key=***");
    cr_expect_str_eq(masked("=key= wick.listen=tcp:key=7"), "=key= wick.listen=tcp:key=7");
}
