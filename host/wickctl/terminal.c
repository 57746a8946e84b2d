#include "terminal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* The process's own terminal, which atexit() must find. */
static struct {
    bool known;
    enum terminal_mode mode;
    struct termios before;
} terminal;

static void put_back(void) {
    terminal_set(TERMINAL_AS_IT_WAS);
}

void terminal_set(enum terminal_mode mode) {
    if (!terminal.known) {
        if (mode == TERMINAL_AS_IT_WAS || tcgetattr(STDIN_FILENO, &terminal.before) != 0) return;
        terminal.known = true;
        atexit(put_back);
    }
    struct termios now = terminal.before;
    if (mode != TERMINAL_AS_IT_WAS) {
        now.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
        now.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IXON);
        if (mode == TERMINAL_KEYS) now.c_lflag &= ~(tcflag_t)ISIG;
        now.c_cc[VMIN] = 1;
        now.c_cc[VTIME] = 0;
    }
    /* What was typed ahead stays. */
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &now) == 0) terminal.mode = mode;
}

void terminal_suspend(void) {
    enum terminal_mode mode = terminal.mode;
    terminal_set(TERMINAL_AS_IT_WAS);
    raise(SIGTSTP);
    terminal_set(mode);
}

void terminal_size(unsigned *columns, unsigned *rows) {
    struct winsize size;
    bool told = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
    *columns = told && size.ws_col ? size.ws_col : 80;
    *rows = told && size.ws_row ? size.ws_row : 24;
}

bool terminal_is_utf8(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *locale = getenv(names[i]);
        if (!locale || !*locale) continue;
        const char *dot = strchr(locale, '.');
        return dot &&
               (strncasecmp(dot + 1, "utf-8", 5) == 0 || strncasecmp(dot + 1, "utf8", 4) == 0);
    }
    return false;
}
