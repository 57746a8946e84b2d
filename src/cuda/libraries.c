#include "cuda/libraries.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char loader_name[] = "ld-linux-x86-64.so.2";
static const char libc_name[] = "libc.so.6";
static const char cuda_name[] = "libcuda.so.1";

/* After cuda_path. The driver: Debian and Ubuntu, Red Hat and SUSE, the container runtime, WSL,
 * NixOS, the appliance. glibc where /usr and / are not one: also /lib64 and /lib/... */
static const char usual_places[] =
    "/usr/lib/x86_64-linux-gnu:/usr/lib64:/usr/local/nvidia/lib64:/usr/lib/wsl/lib:"
    "/run/opengl-driver/lib:/gpu:/lib64:/lib/x86_64-linux-gnu";

/* `directory/name` for the next directory of the list; NULL: the list is at its end. A directory
 * that is too long is passed over. */
static const char *place_next(const char *list, const char *name, char *path) {
    while (*list != '\0') {
        size_t n = strcspn(list, ":");
        int length = snprintf(path, LIBRARY_PATH_BYTES, "%.*s/%s", (int)n, list, name);
        list += n + (list[n] == ':');
        if (n > 0 && length < LIBRARY_PATH_BYTES) return list;
    }
    return NULL;
}

static bool file_find(const char *places, const char *name, char *path) {
    for (const char *rest = place_next(places, name, path); rest != NULL;
         rest = place_next(rest, name, path)) {
        if (access(path, R_OK) == 0) return true;
    }
    path[0] = '\0';
    return false;
}

static bool path_has(const char *list, const char *directory, size_t n) {
    while (*list != '\0') {
        size_t length = strcspn(list, ":");
        if (length == n && memcmp(list, directory, n) == 0) return true;
        list += length + (list[length] == ':');
    }
    return false;
}

/* Adds the directory of a file to the list, unless it stands there already. */
static void path_add(char *list, const char *file) {
    size_t n = (size_t)(strrchr(file, '/') - file);
    size_t used = strlen(list);
    if (path_has(list, file, n) || used + 1 + n + 1 > LIBRARY_LIST_BYTES) return;
    snprintf(list + used, LIBRARY_LIST_BYTES - used, "%s%.*s", used > 0 ? ":" : "", (int)n, file);
}

bool libraries_find(struct libraries *libraries, const char *cuda_path, struct fault *fault) {
    char places[LIBRARY_LIST_BYTES];
    char libc[LIBRARY_PATH_BYTES];
    bool given = cuda_path != NULL && cuda_path[0] != '\0';
    int length = snprintf(places, sizeof places, "%s%s%s", given ? cuda_path : "", given ? ":" : "",
                          usual_places);
    if (length >= (int)sizeof places) {
        return fault_set(fault, FAULT_INVALID_REQUEST, "cuda_path is longer than %zu bytes",
                         sizeof places - sizeof usual_places);
    }
    const char *missing = NULL;
    if (!file_find(places, cuda_name, libraries->cuda))
        missing = cuda_name;
    else if (!file_find(places, loader_name, libraries->loader))
        missing = loader_name;
    else if (!file_find(places, libc_name, libc))
        missing = libc_name;
    if (missing != NULL) {
        return fault_set(fault, FAULT_CUDA_ERROR, "finding %s: it is in none of %s%s", missing,
                         places, given ? "" : "; cuda_path=DIR adds a place");
    }
    libraries->path[0] = '\0';
    path_add(libraries->path, libraries->cuda);
    path_add(libraries->path, libc);
    for (const char *rest = place_next(places, ".", libc); rest != NULL;
         rest = place_next(rest, ".", libc)) {
        if (access(libc, X_OK) == 0) path_add(libraries->path, libc);
    }
    return true;
}

bool libraries_device_node(void) {
    return access("/dev/nvidiactl", F_OK) == 0;
}
