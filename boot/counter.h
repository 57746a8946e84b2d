/* counter: boots that did not come up, counted where a restart does not forget it: three bytes of
 * CMOS RAM, which the battery, or the virtual machine's monitor, keeps.
 *
 * It works where the machine has a PC's CMOS at ports 0x70 and 0x71 and the kernel lets PID 1 at
 * it: QEMU (pc and q35, SeaBIOS and OVMF) and most PCs. It does not with Secure Boot's lockdown, in
 * microVMs without CMOS, and when a virtual machine is ended and started anew. Boards may use these
 * bytes for themselves, so boot_count=auto counts in virtual machines only. */
#ifndef WICK_BOOT_COUNTER_H
#define WICK_BOOT_COUNTER_H

#include <stdbool.h>
#include <stdint.h>

enum {
    COUNTER_FAILURES_MAX = 3, /* in a row; the next boot is in safe mode */
    COUNTER_BYTES = 3
};

/* The bytes that stand for a count, and back: 0 when they stand for none. Pure. */
void counter_encode(uint8_t failures, uint8_t bytes[COUNTER_BYTES]);
uint8_t counter_decode(const uint8_t bytes[COUNTER_BYTES]);

/* Counts this boot as failed for now. Returns how many before it failed in a row; -1: there is no
 * place to count, and *reason says why. `where` is the configuration's: "auto", "cmos", "off". */
int counter_begin(const char *where, const char **reason);

/* This boot has come up: nothing has failed. Only after a counter_begin that counted. */
void counter_clear(void);

#endif
