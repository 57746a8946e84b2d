#ifndef WICK_TESTS_PTX_TYPE_H
#define WICK_TESTS_PTX_TYPE_H

/* PTX's types and special registers, by name. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum type {
    TYPE_NONE,
    TYPE_PRED,
    TYPE_B8,
    TYPE_U8,
    TYPE_S8,
    TYPE_B16,
    TYPE_U16,
    TYPE_S16,
    TYPE_F16,
    TYPE_BF16,
    TYPE_B32,
    TYPE_U32,
    TYPE_S32,
    TYPE_F32,
    TYPE_TF32,
    TYPE_F16X2,
    TYPE_BF16X2,
    TYPE_B64,
    TYPE_U64,
    TYPE_S64,
    TYPE_F64,
    TYPE_B128,
    TYPE_COUNT
};

enum type type_find(const char *name, size_t length); /* without the dot; TYPE_NONE: no type */
const char *type_name(enum type type);
unsigned type_bytes(enum type type); /* 0 for pred */
bool type_is_signed(enum type type);
bool type_is_float(enum type type); /* one value, not a pair */

enum special {
    SPECIAL_TID_X,
    SPECIAL_TID_Y,
    SPECIAL_TID_Z,
    SPECIAL_NTID_X,
    SPECIAL_NTID_Y,
    SPECIAL_NTID_Z,
    SPECIAL_CTAID_X,
    SPECIAL_CTAID_Y,
    SPECIAL_CTAID_Z,
    SPECIAL_NCTAID_X,
    SPECIAL_NCTAID_Y,
    SPECIAL_NCTAID_Z,
    SPECIAL_LANEID,
    SPECIAL_WARPID,
    SPECIAL_NWARPID,
    SPECIAL_SMID,
    SPECIAL_NSMID,
    SPECIAL_GRIDID,
    SPECIAL_LANEMASK_EQ,
    SPECIAL_LANEMASK_LE,
    SPECIAL_LANEMASK_LT,
    SPECIAL_LANEMASK_GE,
    SPECIAL_LANEMASK_GT,
    SPECIAL_CLOCK,
    SPECIAL_CLOCK_HI,
    SPECIAL_CLOCK64,
    SPECIAL_GLOBALTIMER,
    SPECIAL_GLOBALTIMER_LO,
    SPECIAL_GLOBALTIMER_HI,
    SPECIAL_DYNAMIC_SMEM_SIZE,
    SPECIAL_TOTAL_SMEM_SIZE,
    SPECIAL_COUNT
};

/* With the %, without: SPECIAL_COUNT when there is no such register. */
enum special special_find(const char *name, size_t length);
unsigned special_bytes(enum special special); /* 4 or 8 */
bool special_is_clock(enum special special);  /* changes while a warp runs */

#endif
