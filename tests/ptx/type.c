#include "tests/ptx/type.h"

#include <string.h>

enum { SIGNED = 1, FLOATING = 2 };

static const struct {
    const char *name;
    unsigned bytes, flags;
} types[TYPE_COUNT] = {
    [TYPE_NONE] = {"", 0, 0},
    [TYPE_PRED] = {"pred", 0, 0},
    [TYPE_B8] = {"b8", 1, 0},
    [TYPE_U8] = {"u8", 1, 0},
    [TYPE_S8] = {"s8", 1, SIGNED},
    [TYPE_B16] = {"b16", 2, 0},
    [TYPE_U16] = {"u16", 2, 0},
    [TYPE_S16] = {"s16", 2, SIGNED},
    [TYPE_F16] = {"f16", 2, FLOATING},
    [TYPE_BF16] = {"bf16", 2, FLOATING},
    [TYPE_B32] = {"b32", 4, 0},
    [TYPE_U32] = {"u32", 4, 0},
    [TYPE_S32] = {"s32", 4, SIGNED},
    [TYPE_F32] = {"f32", 4, FLOATING},
    [TYPE_TF32] = {"tf32", 4, FLOATING},
    [TYPE_F16X2] = {"f16x2", 4, 0},
    [TYPE_BF16X2] = {"bf16x2", 4, 0},
    [TYPE_B64] = {"b64", 8, 0},
    [TYPE_U64] = {"u64", 8, 0},
    [TYPE_S64] = {"s64", 8, SIGNED},
    [TYPE_F64] = {"f64", 8, FLOATING},
    [TYPE_B128] = {"b128", 16, 0},
};

enum type type_find(const char *name, size_t length) {
    for (enum type t = TYPE_PRED; t < TYPE_COUNT; t++)
        if (strlen(types[t].name) == length && memcmp(types[t].name, name, length) == 0) return t;
    return TYPE_NONE;
}

const char *type_name(enum type type) {
    return types[type].name;
}

unsigned type_bytes(enum type type) {
    return types[type].bytes;
}

bool type_is_signed(enum type type) {
    return types[type].flags & SIGNED;
}

bool type_is_float(enum type type) {
    return types[type].flags & FLOATING;
}

static const struct {
    const char *name;
    unsigned bytes;
} specials[SPECIAL_COUNT] = {
    [SPECIAL_TID_X] = {"%tid.x", 4},
    [SPECIAL_TID_Y] = {"%tid.y", 4},
    [SPECIAL_TID_Z] = {"%tid.z", 4},
    [SPECIAL_NTID_X] = {"%ntid.x", 4},
    [SPECIAL_NTID_Y] = {"%ntid.y", 4},
    [SPECIAL_NTID_Z] = {"%ntid.z", 4},
    [SPECIAL_CTAID_X] = {"%ctaid.x", 4},
    [SPECIAL_CTAID_Y] = {"%ctaid.y", 4},
    [SPECIAL_CTAID_Z] = {"%ctaid.z", 4},
    [SPECIAL_NCTAID_X] = {"%nctaid.x", 4},
    [SPECIAL_NCTAID_Y] = {"%nctaid.y", 4},
    [SPECIAL_NCTAID_Z] = {"%nctaid.z", 4},
    [SPECIAL_LANEID] = {"%laneid", 4},
    [SPECIAL_WARPID] = {"%warpid", 4},
    [SPECIAL_NWARPID] = {"%nwarpid", 4},
    [SPECIAL_SMID] = {"%smid", 4},
    [SPECIAL_NSMID] = {"%nsmid", 4},
    [SPECIAL_GRIDID] = {"%gridid", 8},
    [SPECIAL_LANEMASK_EQ] = {"%lanemask_eq", 4},
    [SPECIAL_LANEMASK_LE] = {"%lanemask_le", 4},
    [SPECIAL_LANEMASK_LT] = {"%lanemask_lt", 4},
    [SPECIAL_LANEMASK_GE] = {"%lanemask_ge", 4},
    [SPECIAL_LANEMASK_GT] = {"%lanemask_gt", 4},
    [SPECIAL_CLOCK] = {"%clock", 4},
    [SPECIAL_CLOCK_HI] = {"%clock_hi", 4},
    [SPECIAL_CLOCK64] = {"%clock64", 8},
    [SPECIAL_GLOBALTIMER] = {"%globaltimer", 8},
    [SPECIAL_GLOBALTIMER_LO] = {"%globaltimer_lo", 4},
    [SPECIAL_GLOBALTIMER_HI] = {"%globaltimer_hi", 4},
    [SPECIAL_DYNAMIC_SMEM_SIZE] = {"%dynamic_smem_size", 4},
    [SPECIAL_TOTAL_SMEM_SIZE] = {"%total_smem_size", 4},
};

enum special special_find(const char *name, size_t length) {
    enum special s = 0;
    while (s < SPECIAL_COUNT &&
           (strlen(specials[s].name) != length || memcmp(specials[s].name, name, length) != 0))
        s++;
    return s;
}

unsigned special_bytes(enum special special) {
    return specials[special].bytes;
}

bool special_is_clock(enum special special) {
    return special >= SPECIAL_CLOCK && special <= SPECIAL_GLOBALTIMER_HI;
}
