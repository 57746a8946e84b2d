#include "base/build_id.h"

#include <stdint.h>
#include <stdio.h>

/* An ELF note: sizes of name and description, type, name "GNU\0", then the description. */
struct build_id_note {
    uint32_t name_bytes;
    uint32_t id_bytes;
    uint32_t type;
    char name[4];
    uint8_t id[20];
};

/* Set by linker/wick.ld. */
extern const struct build_id_note build_id_note __attribute__((weak));

const char *build_id(void) {
    static char text[2 * sizeof build_id_note.id + 1]; /* the same at every call */
    const struct build_id_note *note = &build_id_note;
    if (note == NULL || note->id_bytes != sizeof note->id) return "dev";
    for (size_t i = 0; i < sizeof note->id; i++) snprintf(text + 2 * i, 3, "%02x", note->id[i]);
    return text;
}
