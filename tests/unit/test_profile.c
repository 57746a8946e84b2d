#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wickctl/profile_file.h"

static char got[1024];

static bool note(void *context, const char *name, const char *value, unsigned line) {
    size_t n = strlen(got);
    (void)context;
    snprintf(got + n, sizeof got - n, "%u:%s=%s;", line, name, value);
    return strcmp(name, "stop_here") != 0;
}

static bool parse(const char *text, const char *name, bool *found, unsigned *line) {
    char copy[1024];
    snprintf(copy, sizeof copy, "%s", text);
    got[0] = 0;
    return profile_parse(copy, name, note, NULL, found, line);
}

Test(profile, the_common_part_comes_first_then_the_section) {
    static const char text[] = "# mine\n"
                               "connect = tcp:h:1   # there\n"
                               "\n"
                               "[lab]\r\n"
                               "  connect=\"tcp:l:2\"\r\n"
                               "stop = \" a # b \"\n"
                               "[ other ]\n"
                               "connect = x\n"
                               "[lab]\n"
                               "seed = 1#2\n";
    bool found;
    unsigned line;
    cr_assert(parse(text, "lab", &found, &line));
    cr_assert(found);
    cr_assert_str_eq(got, "2:connect=tcp:h:1;5:connect=tcp:l:2;6:stop= a # b ;10:seed=1#2;");
    cr_assert(parse(text, "other", &found, &line) && found);
    cr_assert_str_eq(got, "2:connect=tcp:h:1;8:connect=x;");
    cr_assert(parse(text, "none", &found, &line));
    cr_assert_not(found);
    cr_assert(parse("", "none", &found, &line));
}

Test(profile, what_is_no_setting_is_told_by_line) {
    bool found;
    unsigned line;
    cr_assert_not(parse("a = 1\nhello\n", "x", &found, &line));
    cr_assert_eq(line, 2);
    cr_assert_not(parse("[x\n", "x", &found, &line));
    cr_assert_eq(line, 1);
    cr_assert_not(parse("\n\n= 3\n", "x", &found, &line));
    cr_assert_eq(line, 3);
    cr_assert_not(parse("stop_here = 1\nb = 2\n", "x", &found, &line));
    cr_assert_str_eq(got, "1:stop_here=1;");
}

Test(profile, files_lie_where_the_environment_says_or_at_home) {
    char path[PROFILE_PATH_MAX];
    setenv("HOME", "/home/me", 1);
    setenv("XDG_CONFIG_HOME", "/else", 1);
    cr_assert(profile_path("XDG_CONFIG_HOME", ".config", "f", path));
    cr_assert_str_eq(path, "/else/wick/f");
    setenv("XDG_CONFIG_HOME", "relative", 1);
    cr_assert(profile_path("XDG_CONFIG_HOME", ".config", "f", path));
    cr_assert_str_eq(path, "/home/me/.config/wick/f");
    unsetenv("HOME");
    cr_assert_not(profile_path("XDG_CONFIG_HOME", ".config", "f", path));
}
