#include <criterion/criterion.h>

#include "lab/windows.h"

static int32_t tokens[100];

static struct windows cut(size_t n, size_t room, size_t overlap, bool bos) {
    for (int i = 0; i < 100; i++) tokens[i] = i;
    return (struct windows){.token = tokens, .n = n, .bos = bos, .room = room, .overlap = overlap};
}

/* Whatever the sizes: every token that has something before it is judged once, in order, with at
 * least `overlap` before it unless the text begins there, and no window is larger than its room. */
Test(windows, every_token_is_judged_once_with_its_context) {
    for (size_t n = 1; n <= 20; n++) {
        for (size_t room = 1; room <= 8; room++) {
            for (size_t overlap = 0; overlap < room; overlap++) {
                for (int bos = 0; bos < 2; bos++) {
                    struct windows w = cut(n, room, overlap, bos);
                    size_t next = 0, judged = 0;
                    while (windows_next(&w)) {
                        cr_assert_leq(w.end - w.begin, room);
                        cr_assert(w.begin == 0 || w.judged - w.begin >= overlap);
                        /* Only what has nothing at all before it is passed over. */
                        bool bare = !bos && w.begin == next;
                        cr_assert_eq(w.judged, next + (bare ? 1 : 0));
                        judged += w.end - w.judged;
                        next = w.end;
                    }
                    cr_assert_eq(next, n);
                    w = cut(n, room, overlap, bos);
                    cr_assert_eq(windows_judged(&w), judged);
                    if (bos || overlap > 0) cr_assert_eq(judged, n - (bos ? 0 : 1));
                }
            }
        }
    }
}

Test(windows, a_row_is_judged_by_the_token_after_it) {
    struct windows w = cut(10, 6, 2, false);
    cr_assert(windows_next(&w));
    cr_assert_eq(windows_target(&w, 0), 1);
    cr_assert_eq(windows_target(&w, 4), 5);
    cr_assert_eq(windows_target(&w, 5), -1);
    cr_assert(windows_next(&w)); /* 4 5 | 6 7 8 9 */
    cr_assert_eq(windows_target(&w, 0), -1);
    cr_assert_eq(windows_target(&w, 1), 6);
    cr_assert_eq(windows_target(&w, 4), 9);
    cr_assert_not(windows_next(&w));
    w = cut(10, 6, 2, true);
    cr_assert(windows_next(&w)); /* BOS 0 1 2 3 4 5 */
    cr_assert_eq(windows_target(&w, 0), 0);
    cr_assert_eq(windows_target(&w, 5), 5);
    cr_assert_eq(windows_target(&w, 6), -1);
}

Test(windows, surprise_is_minus_the_log_of_the_softmax) {
    const float logits[] = {1.0f, 2.0f, 3.0f};
    cr_assert_float_eq(windows_surprise(logits, 3, 2), 0.40760596444437994, 1e-12);
    cr_assert_float_eq(windows_surprise(logits, 3, 0), 2.40760596444438, 1e-12);
    const float large[] = {1000.0f, 0.0f};
    cr_assert_float_eq(windows_surprise(large, 2, 0), 0.0, 1e-12);
    cr_assert_float_eq(windows_surprise(large, 2, 1), 1000.0, 1e-9);
}
