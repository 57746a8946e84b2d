/* power: who may ask for the end, and how the machine ends. */
#ifndef WICK_BOOT_POWER_H
#define WICK_BOOT_POWER_H

#include <stdbool.h>

enum { POWER_BUTTONS_MAX = 4 };

struct power {
    unsigned n_buttons;
    int button[POWER_BUTTONS_MAX]; /* evdev descriptors */
};

/* Ctrl-Alt-Del becomes SIGINT, and the input devices that have a power key are opened. */
void power_open(struct power *power);

/* Reads what the button's descriptor has; true: the power key was pressed. */
bool power_pressed(int button);

enum power_end { POWER_OFF, POWER_RESTART };

/* Writes what is left to write and ends the machine. */
_Noreturn void power_finish(enum power_end end);

#endif
