#include "cpu/isa.h"

#include <cpuid.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cpu/tile_instructions.h"

/* What CPUID promises and the operating system keeps (XCR0: the register state it saves). */
struct isa_features {
    bool fma, f16c, avx2, avx512f, avx512bw, avx512vl, avx512dq, avx512vnni;
    bool avx512bf16, amx_tile, amx_int8, amx_bf16;
    bool saves_ymm, saves_zmm, saves_tiles;
};

static uint64_t isa_xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Of CPUID leaf 7, and of its second part: compilers do not agree on their names. */
enum {
    EAX_AVX512_BF16 = 1 << 5,
    EDX_AMX_BF16 = 1 << 22,
    EDX_AMX_TILE = 1 << 24,
    EDX_AMX_INT8 = 1 << 25
};

static struct isa_features isa_detect(void) {
    struct isa_features have = {0};
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return have;
    bool osxsave = c & bit_OSXSAVE;
    have.fma = c & bit_FMA;
    have.f16c = c & bit_F16C;
    if (osxsave) {
        uint64_t state = isa_xcr0();
        have.saves_ymm = (state & 0x06) == 0x06; /* SSE, AVX */
        have.saves_zmm = (state & 0xE6) == 0xE6; /* and opmask, upper ZMM halves */
        have.saves_tiles = (state & 0x60000) == 0x60000;
    }
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return have;
    have.avx2 = b & bit_AVX2;
    have.avx512f = b & bit_AVX512F;
    have.avx512bw = b & bit_AVX512BW;
    have.avx512vl = b & bit_AVX512VL;
    have.avx512dq = b & bit_AVX512DQ;
    have.avx512vnni = c & bit_AVX512VNNI;
    have.amx_tile = d & EDX_AMX_TILE;
    have.amx_int8 = d & EDX_AMX_INT8;
    have.amx_bf16 = d & EDX_AMX_BF16;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) have.avx512bf16 = a & EAX_AVX512_BF16;
    return have;
}

static bool isa_has_sse2(const struct isa_features *have) {
    (void)have;
    return true; /* x86-64 */
}
static bool isa_has_avx2(const struct isa_features *have) {
    return have->avx2 && have->fma && have->f16c && have->saves_ymm;
}
static bool isa_has_avx512(const struct isa_features *have) {
    return isa_has_avx2(have) && have->avx512f && have->avx512bw && have->avx512vl &&
           have->avx512dq && have->avx512vnni && have->saves_zmm;
}

/* Tiles are large: the kernel lends them only to a process that has asked. */
static bool isa_ask_for_tiles(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* asm/prctl.h, asm/fpu/xcr.h */
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
static bool isa_has_tiles(const struct isa_features *have) {
    return TILES_IN_SOFTWARE || (have->amx_tile && have->amx_int8 && have->amx_bf16 &&
                                 have->saves_tiles && isa_ask_for_tiles());
}
static bool isa_has_amx(const struct isa_features *have) {
    return isa_has_avx512(have) && have->avx512bf16 && isa_has_tiles(have);
}

#define AMX_NEEDS "AVX-512 as avx512 and BF16, AMX-TILE, AMX-INT8 and AMX-BF16"

/* Widest first, of which "auto" is the first that works. */
static const struct isa_entry {
    const struct cpu_kernels *kernels;
    bool (*works)(const struct isa_features *have);
    const char *needs;
} isa_table[] = {
    {&cpu_kernels_amx, isa_has_amx, AMX_NEEDS},
    {&cpu_kernels_amx_bf16, isa_has_amx, AMX_NEEDS},
    {&cpu_kernels_avx512, isa_has_avx512, "AVX-512 F, BW, VL, DQ and VNNI"},
    {&cpu_kernels_avx2, isa_has_avx2, "AVX2, FMA and F16C"},
    {&cpu_kernels_sse2, isa_has_sse2, "SSE2"},
};

const struct cpu_kernels *isa_choose(const char *name, struct fault *fault) {
    struct isa_features have = isa_detect();
    bool any = strcmp(name, "auto") == 0;
    for (size_t i = 0; i < sizeof isa_table / sizeof isa_table[0]; i++) {
        const struct isa_entry *entry = &isa_table[i];
        if (!any && strcmp(name, entry->kernels->name) != 0) continue;
        if (any && TILES_IN_SOFTWARE && entry->works == isa_has_amx) continue;
        if (entry->works(&have)) return entry->kernels;
        if (any) continue;
        fault_set(fault, FAULT_INVALID_REQUEST,
                  "isa=%s is not supported by this machine: it needs %s, from the processor and "
                  "from the operating system; try isa=auto",
                  name, entry->needs);
        return NULL;
    }
    fault_set(fault, FAULT_INVALID_REQUEST, "isa=%s is not known", name);
    return NULL;
}

static void isa_processor_name(char *out, size_t bytes) {
    uint32_t words[12] = {0};
    char text[sizeof words + 1] = {0};
    if (__get_cpuid_max(0x80000000, NULL) >= 0x80000004)
        for (uint32_t i = 0; i < 3; i++)
            __get_cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                        &words[4 * i + 3]);
    memcpy(text, words, sizeof words);
    const char *name = text;
    while (*name == ' ') name++;
    snprintf(out, bytes, "%s", *name != '\0' ? name : "x86-64 processor");
}

void isa_describe(uint32_t threads, const struct processors *cpus, char *out, size_t bytes) {
    char name[49], numbers[PROCESSORS_TEXT_BYTES] = "";
    isa_processor_name(name, sizeof name);
    if (cpus != NULL) processors_show(cpus, numbers, sizeof numbers);
    snprintf(out, bytes, "%s, %u thread%s%s%s", name, threads, threads == 1 ? "" : "s",
             cpus == NULL   ? ""
             : cpus->n == 1 ? " on processor "
                            : " on processors ",
             numbers);
}
