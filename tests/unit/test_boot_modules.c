#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "boot/modules.h"

static struct module_line line;

Test(boot_modules, a_name_is_a_file_of_the_directory_and_a_path_is_itself) {
    const char *at = "virtio_blk\nvirtio_net.ko\n/opt/nvidia.ko\n";
    cr_assert(module_line_next(&at, &line));
    cr_assert_str_eq(line.path, "/lib/modules/virtio_blk.ko");
    cr_assert_str_eq(line.parameters, "");
    cr_assert(module_line_next(&at, &line));
    cr_assert_str_eq(line.path, "/lib/modules/virtio_net.ko");
    cr_assert(module_line_next(&at, &line));
    cr_assert_str_eq(line.path, "/opt/nvidia.ko");
    cr_assert_not(module_line_next(&at, &line));
}

Test(boot_modules, parameters_are_the_rest_of_the_line) {
    const char *at = "  nvidia-uvm\tuvm_disable_hmm=1  a=\"b c\" \r\nlast x=1";
    cr_assert(module_line_next(&at, &line));
    cr_assert_str_eq(line.path, "/lib/modules/nvidia-uvm.ko");
    cr_assert_str_eq(line.parameters, "uvm_disable_hmm=1  a=\"b c\"");
    cr_assert(module_line_next(&at, &line));
    cr_assert_str_eq(line.path, "/lib/modules/last.ko");
    cr_assert_str_eq(line.parameters, "x=1");
    cr_assert_not(module_line_next(&at, &line));
}

Test(boot_modules, remarks_and_empty_lines_name_nothing) {
    const char *at = "# all\n\n   \n  # more\nsoftdog # the last resort\n#";
    cr_assert(module_line_next(&at, &line));
    cr_assert_str_eq(line.path, "/lib/modules/softdog.ko");
    cr_assert_str_eq(line.parameters, "");
    cr_assert_not(module_line_next(&at, &line));
    at = "";
    cr_assert_not(module_line_next(&at, &line));
}

Test(boot_modules, what_does_not_fit_is_told_and_does_not_spoil_the_next) {
    char text[2048];
    memset(text, 'x', sizeof text);
    memcpy(text + 600, "\nshort ", 7);
    memcpy(text + 1200, "\nnext\n", 7);
    const char *at = text;
    cr_assert(module_line_next(&at, &line));
    cr_assert(line.too_long); /* its path */
    cr_assert(module_line_next(&at, &line));
    cr_assert(line.too_long); /* its parameters */
    cr_assert_str_eq(line.path, "/lib/modules/short.ko");
    cr_assert(module_line_next(&at, &line));
    cr_assert_not(line.too_long);
    cr_assert_str_eq(line.path, "/lib/modules/next.ko");
}
