#include "boot/counter.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/io.h>

enum {
    CMOS_INDEX = 0x70,
    CMOS_DATA = 0x71,
    /* Beyond what the PC's BIOS and SeaBIOS use (up to 0x5F) and its checksum covers (0x10-0x2D).
     */
    CMOS_FIRST = 0x70,
    MARK = 'w'
};

void counter_encode(uint8_t failures, uint8_t bytes[COUNTER_BYTES]) {
    bytes[0] = MARK;
    bytes[1] = failures;
    bytes[2] = (uint8_t) ~(failures + MARK);
}

uint8_t counter_decode(const uint8_t bytes[COUNTER_BYTES]) {
    uint8_t right[COUNTER_BYTES];
    counter_encode(bytes[1], right);
    return memcmp(bytes, right, COUNTER_BYTES) == 0 ? bytes[1] : 0;
}

static void cmos_read(uint8_t bytes[COUNTER_BYTES]) {
    for (int i = 0; i < COUNTER_BYTES; i++) {
        outb((uint8_t)(CMOS_FIRST + i), CMOS_INDEX);
        bytes[i] = inb(CMOS_DATA);
    }
}

/* False: nothing remembers there. */
static bool cmos_write(const uint8_t bytes[COUNTER_BYTES]) {
    uint8_t kept[COUNTER_BYTES];
    for (int i = 0; i < COUNTER_BYTES; i++) {
        outb((uint8_t)(CMOS_FIRST + i), CMOS_INDEX);
        outb(bytes[i], CMOS_DATA);
    }
    cmos_read(kept);
    return memcmp(kept, bytes, COUNTER_BYTES) == 0;
}

/* Bit 31 of ecx of leaf 1: every monitor sets it, no processor does. */
static bool is_virtual(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 31 & 1) != 0;
}

int counter_begin(const char *where, const char **reason) {
    uint8_t bytes[COUNTER_BYTES];
    *reason = "boot_count=off";
    if (strcmp(where, "off") == 0) return -1;
    *reason = "not a virtual machine; boot_count=cmos counts here too";
    if (strcmp(where, "auto") == 0 && !is_virtual()) return -1;
    *reason = "the kernel keeps ports 0x70 and 0x71 to itself";
    if (ioperm(CMOS_INDEX, 2, 1) != 0) return -1;
    cmos_read(bytes);
    uint8_t failures = counter_decode(bytes);
    counter_encode(failures < UINT8_MAX ? (uint8_t)(failures + 1) : failures, bytes);
    *reason = "there is no CMOS RAM";
    return cmos_write(bytes) ? failures : -1;
}

void counter_clear(void) {
    uint8_t bytes[COUNTER_BYTES];
    counter_encode(0, bytes);
    cmos_write(bytes); /* it could a moment ago */
}
