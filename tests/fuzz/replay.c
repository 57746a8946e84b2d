/* replay: gives every file named, or in the folders named, to a fuzz entry, once. What libFuzzer
 * does with `-runs=0`, for machines without it. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 1 << 20 };

static unsigned replay_file(const char *path) {
    static uint8_t data[INPUT_MAX];
    FILE *file = fopen(path, "rb");
    if (file == NULL) return 0;
    size_t n = fread(data, 1, sizeof data, file);
    fclose(file);
    uint8_t *exact = malloc(n + 1);
    if (exact == NULL) exit(1);
    memcpy(exact, data, n);
    fprintf(stderr, "\r%s", path); /* what a sanitizer's report is about */
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    return 1;
}

static unsigned replay(const char *path) {
    DIR *folder = opendir(path);
    if (folder == NULL) return replay_file(path);
    unsigned n = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char inside[4096];
        if (entry->d_name[0] == '.') continue;
        snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
        n += replay_file(inside);
    }
    closedir(folder);
    return n;
}

int main(int argc, char **argv) {
    unsigned n = 0;
    for (int i = 1; i < argc; i++) n += replay(argv[i]);
    fprintf(stderr, "\r%60s\r", "");
    printf("%u inputs\n", n);
    return n == 0;
}
