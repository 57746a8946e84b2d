#include "token/unicode.h"

#include "base/panic.h"

uint8_t unicode_flags(uint32_t code_point) {
    if (code_point > 0x10FFFF) return UNICODE_SYMBOL;
    /* The last range that starts at or before the code point: ranges[low] stays at or before it,
     * ranges[high] beyond it. */
    uint32_t low = 0, high = unicode_n_ranges;
    wick_assert(high > 0 && unicode_ranges[0] >> 8 == 0);
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (unicode_ranges[middle] >> 8 <= code_point) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (uint8_t)(unicode_ranges[low] & 0xFF);
}
