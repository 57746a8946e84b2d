#include "tests/ptx/decode.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ptx/families.h"

#define CALLS_DEEP_MAX 32u
#define SHARED_ALIGN 256u

struct decoder_jump {
    uint32_t instruction; /* whose target it is */
    uint32_t *place;      /* or where else it goes: a table of branch targets */
    size_t statement;     /* of the function being expanded */
};

struct decoder_constant {
    uint64_t value;
    unsigned bytes;
    uint32_t offset;
};

_Noreturn void decode_fail(struct decoder *d, const char *format, ...) {
    int line = d->statement ? d->statement->line : d->function->line;
    int n = snprintf(d->error->text, sizeof d->error->text, "line %d: %s: ", line,
                     d->statement ? d->statement->opcode : d->function->name);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(d->error->text + n, sizeof d->error->text - (size_t)n, format, arguments);
    va_end(arguments);
    longjmp(d->escape, 1);
}

/* --- modifiers -------------------------------------------------------------------------------- */

static void decode_cut(struct decoder *d) {
    size_t length = strlen(d->statement->opcode);
    if (length >= sizeof d->cut) decode_fail(d, "the opcode is too long");
    memcpy(d->cut, d->statement->opcode, length + 1);
    d->part_count = 0;
    memset(d->taken, 0, sizeof d->taken);
    for (char *p = d->cut; p;) {
        if (d->part_count == PARTS_MAX) decode_fail(d, "the opcode has too many modifiers");
        d->parts[d->part_count++] = p;
        p = strchr(p, '.');
        if (p) *p++ = 0;
    }
    d->taken[0] = true;
}

bool decode_take(struct decoder *d, const char *modifier) {
    for (int i = 1; i < d->part_count; i++)
        if (!d->taken[i] && strcmp(d->parts[i], modifier) == 0) return d->taken[i] = true;
    return false;
}

int decode_take_one(struct decoder *d, const char *const *modifiers) {
    for (int i = 0; modifiers[i]; i++)
        if (decode_take(d, modifiers[i])) return i;
    return -1;
}

enum type decode_take_type(struct decoder *d) {
    for (int i = 1; i < d->part_count; i++) {
        if (d->taken[i]) continue;
        enum type type = type_find(d->parts[i], strlen(d->parts[i]));
        if (type != TYPE_NONE) {
            d->taken[i] = true;
            return type;
        }
    }
    decode_fail(d, "a type is missing");
}

static void decode_all_taken(struct decoder *d) {
    for (int i = 1; i < d->part_count; i++)
        if (!d->taken[i]) decode_fail(d, "modifier .%s is not known here", d->parts[i]);
}

/* --- operands --------------------------------------------------------------------------------- */

void decode_operands(struct decoder *d, size_t least, size_t most) {
    size_t n = d->statement->operand_count;
    if (n < least || n > most) decode_fail(d, "%zu operands", n);
}

const struct operand *decode_operand(struct decoder *d, size_t index) {
    if (index >= d->statement->operand_count) decode_fail(d, "operand %zu is missing", index + 1);
    return &d->statement->operands[index];
}

struct row decode_constant(struct decoder *d, uint64_t value, unsigned bytes) {
    if (bytes < 8) value &= ((uint64_t)1 << bytes * 8) - 1;
    for (size_t i = 0; i < d->constant_count; i++)
        if (d->constants[i].value == value && d->constants[i].bytes == bytes)
            return (struct row){
                .offset = d->constants[i].offset, .base = BASE_CONSTANTS, .bytes = (uint8_t)bytes};
    struct ptx_kernel *k = d->kernel;
    uint32_t offset = (uint32_t)k->constant_bytes;
    if (offset + LANES * bytes > d->constant_room) {
        size_t room = d->constant_room ? d->constant_room * 2 : 16384;
        uint8_t *grown = pool_take(&d->module->pool, room);
        if (offset) memcpy(grown, k->constants, offset);
        k->constants = grown;
        d->constant_room = room;
    }
    for (unsigned i = 0; i < LANES; i++) memcpy(k->constants + offset + i * bytes, &value, bytes);
    k->constant_bytes += LANES * bytes;
    d->constants =
        pool_grow(&d->module->pool, d->constants, d->constant_count, sizeof *d->constants);
    d->constants[d->constant_count++] =
        (struct decoder_constant){.value = value, .bytes = bytes, .offset = offset};
    return (struct row){.offset = offset, .base = BASE_CONSTANTS, .bytes = (uint8_t)bytes};
}

static uint64_t decode_symbol(struct decoder *d, const struct operand *o) {
    const struct variable *v = o->variable;
    uint64_t address = v->offset + (uint64_t)o->offset;
    if (v->space == SPACE_LOCAL || v->space == SPACE_CALL) address += d->local_base;
    if (v->space == SPACE_SHARED && v->dynamic) address += d->kernel->shared_bytes;
    if (v->space == SPACE_SHARED && !v->dynamic && !v->common) address += d->function->shared_base;
    return address;
}

static uint64_t decode_float(const struct operand *o, enum type type) {
    uint64_t bits = o->value;
    if (o->single && type_bytes(type) == 8) {
        float narrow;
        uint32_t low = (uint32_t)bits;
        memcpy(&narrow, &low, sizeof narrow);
        double wide = (double)narrow;
        memcpy(&bits, &wide, sizeof bits);
    } else if (!o->single && type_bytes(type) == 4) {
        double wide;
        memcpy(&wide, &bits, sizeof wide);
        float narrow = (float)wide;
        uint32_t low;
        memcpy(&low, &narrow, sizeof low);
        bits = low;
    }
    return bits;
}

static struct row decode_register(struct decoder *d, uint32_t id, bool writes) {
    struct row row = d->rows[id];
    struct registers *r = &d->registers;
    r->touches = pool_grow(&d->module->pool, r->touches, r->touch_count, sizeof *r->touches);
    r->touches[r->touch_count++] = (struct touch){
        .instruction = (uint32_t)(d->in - d->kernel->code), .id = row.offset, .writes = writes};
    return row;
}

static struct row decode_value(struct decoder *d, const struct operand *o, enum type type,
                               bool wide) {
    unsigned bytes = type_bytes(type);
    struct row row = {0};
    if (o->second) decode_fail(d, "a pair of registers cannot stand here");
    switch (o->kind) {
    case OPERAND_REGISTER:
        row = decode_register(d, o->id, false);
        if (row.bytes == 0) decode_fail(d, "a predicate stands where a value is expected");
        if (row.bytes != bytes && !(wide && row.bytes > bytes))
            decode_fail(d, "a register of %u bits stands where .%s is expected", row.bytes * 8u,
                        type_name(type));
        break;
    case OPERAND_SPECIAL:
        row = (struct row){.offset = o->id * LANES * 8,
                           .base = BASE_SPECIALS,
                           .bytes = (uint8_t)special_bytes(o->id)};
        if (row.bytes != bytes && !(wide && row.bytes > bytes))
            decode_fail(d, "a special register of %u bits stands where .%s is expected",
                        row.bytes * 8u, type_name(type));
        d->in->clock |= special_is_clock(o->id);
        break;
    case OPERAND_INTEGER:
        if (type_is_float(type) && type != TYPE_F16 && type != TYPE_BF16 && o->value != 0)
            decode_fail(d, "an integer constant stands where .%s is expected", type_name(type));
        row = decode_constant(d, o->value, bytes);
        break;
    case OPERAND_FLOAT:
        row = decode_constant(d, decode_float(o, type), bytes);
        break;
    case OPERAND_SYMBOL:
        row = decode_constant(d, decode_symbol(d, o), bytes);
        break;
    case OPERAND_LABEL:
        decode_fail(d, "'%s' is not known", o->label);
    default:
        decode_fail(d, "an operand of the wrong kind");
    }
    if (o->negated) decode_fail(d, "only a predicate can be negated");
    return row;
}

struct row decode_source(struct decoder *d, const struct operand *o, enum type type) {
    return decode_value(d, o, type, false);
}

struct row decode_source_wide(struct decoder *d, const struct operand *o, enum type type) {
    return decode_value(d, o, type, true);
}

struct row decode_result_wide(struct decoder *d, const struct operand *o, unsigned bytes) {
    if (o->kind == OPERAND_SINK) return (struct row){.sink = true, .bytes = (uint8_t)bytes};
    if (o->kind != OPERAND_REGISTER) decode_fail(d, "the result is no register");
    struct row row = decode_register(d, o->id, true);
    if (row.bytes == 0 || row.bytes < bytes)
        decode_fail(d, "the result's register has %u bits, not %u", row.bytes * 8u, bytes * 8);
    return row;
}

struct row decode_result(struct decoder *d, const struct operand *o, unsigned bytes) {
    struct row row = decode_result_wide(d, o, bytes);
    if (row.bytes != bytes)
        decode_fail(d, "the result's register has %u bits, not %u", row.bytes * 8u, bytes * 8);
    return row;
}

bool decode_is_predicate(const struct decoder *d, const struct operand *o) {
    return o->kind == OPERAND_REGISTER && d->rows[o->id].bytes == 0;
}

struct row decode_predicate(struct decoder *d, const struct operand *o) {
    if (o->kind == OPERAND_INTEGER) return decode_constant(d, o->value ? UINT64_MAX : 0, 4);
    if (!decode_is_predicate(d, o)) decode_fail(d, "a predicate is expected");
    struct row row = decode_register(d, o->id, false);
    row.negated = o->negated;
    return row;
}

struct row decode_predicate_result(struct decoder *d, const struct operand *o) {
    if (o->kind == OPERAND_SINK) return (struct row){.sink = true};
    if (!decode_is_predicate(d, o) || o->negated) decode_fail(d, "a predicate is expected");
    return decode_register(d, o->id, true);
}

uint64_t decode_number(struct decoder *d, const struct operand *o) {
    if (o->kind != OPERAND_INTEGER) decode_fail(d, "a constant is expected");
    return o->value;
}

void decode_address(struct decoder *d, const struct operand *o) {
    if (o->kind != OPERAND_ADDRESS) decode_fail(d, "an address is expected");
    const struct operand *base = &o->parts[0];
    struct instruction *in = d->in;
    in->offset = o->offset;
    if (base->kind == OPERAND_REGISTER) {
        in->a = decode_register(d, base->id, false);
        if (in->a.bytes != 4 && in->a.bytes != 8)
            decode_fail(d, "the address's register has %u bits", in->a.bytes * 8u);
        if (in->a.bytes == 4 && (in->space == SPACE_GENERIC || in->space == SPACE_GLOBAL))
            decode_fail(d, "the address's register has 32 bits");
        return;
    }
    if (base->kind == OPERAND_SYMBOL) {
        enum space space = base->variable->space;
        if (in->space == SPACE_PARAM && space == SPACE_CALL)
            in->space = SPACE_CALL;
        else if (in->space == SPACE_GENERIC && (space == SPACE_GLOBAL || space == SPACE_CONST))
            in->space = SPACE_GLOBAL;
        else if (space != (enum space)in->space)
            decode_fail(d, "'%s' is not in that state space", base->variable->name);
        in->a = decode_constant(d, decode_symbol(d, base), 8);
        return;
    }
    in->a = decode_constant(d, decode_number(d, base), 8);
}

void decode_rows(struct decoder *d, const struct operand *o, unsigned bytes, bool result) {
    size_t n = o->kind == OPERAND_VECTOR ? o->part_count : 1;
    struct row *rows = pool_take(&d->module->pool, n * sizeof *rows);
    enum type type = bytes == 1   ? TYPE_B8
                     : bytes == 2 ? TYPE_B16
                     : bytes == 4 ? TYPE_B32
                     : bytes == 8 ? TYPE_B64
                                  : TYPE_B128;
    for (size_t i = 0; i < n; i++) {
        const struct operand *element = o->kind == OPERAND_VECTOR ? &o->parts[i] : o;
        rows[i] =
            result ? decode_result_wide(d, element, bytes) : decode_source_wide(d, element, type);
    }
    d->in->rows = rows;
    d->in->row_count = (uint32_t)n;
}

/* --- labels ----------------------------------------------------------------------------------- */

void decode_jump(struct decoder *d, const struct operand *o, uint32_t *place) {
    if (o->kind != OPERAND_LABEL) decode_fail(d, "a label is expected");
    const struct label *label = function_label_find(d->function, o->label, d->statement->scope);
    if (!label || label->targets) decode_fail(d, "label '%s' is not known", o->label);
    d->jumps = pool_grow(&d->module->pool, d->jumps, d->jump_count, sizeof *d->jumps);
    d->jumps[d->jump_count++] =
        (struct decoder_jump){.instruction = (uint32_t)(d->in - d->kernel->code),
                              .place = place,
                              .statement = label->statement};
}

/* --- statements ------------------------------------------------------------------------------- */

static void decode_new(struct decoder *d) {
    struct ptx_kernel *k = d->kernel;
    if (k->code_count == d->code_room) {
        size_t room = d->code_room ? d->code_room * 2 : 256;
        struct instruction *grown = pool_take(&d->module->pool, room * sizeof *grown);
        if (k->code_count) memcpy(grown, k->code, k->code_count * sizeof *grown);
        k->code = grown;
        d->code_room = room;
    }
    d->in = &k->code[k->code_count++];
    *d->in = (struct instruction){.guard.sink = true};
    if (!d->statement) return;
    d->in->line = (uint32_t)d->statement->line;
    d->in->opcode = d->statement->opcode;
    if (d->statement->guard != NO_REGISTER) {
        d->in->guard = decode_register(d, d->statement->guard, false);
        d->in->guard.negated = d->statement->guard_negated;
    }
}

static void decode_statement(struct decoder *d) {
    static const struct family *const families[] = {family_convert, family_access,  family_atomic,
                                                    family_sync,    family_control, family_move,
                                                    family_tensor,  family_carry};
    decode_cut(d);
    decode_new(d);
    if (arithmetic_decode(d)) return;
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++)
        for (const struct family *family = families[f]; family->name; family++)
            if (strcmp(family->name, d->parts[0]) == 0) {
                family->decode(d);
                decode_all_taken(d);
                return;
            }
    decode_fail(d, "this opcode is not known");
}

/* --- functions -------------------------------------------------------------------------------- */

/* Registers of one activation get the next ids. */
static const struct row *decode_registers(struct decoder *d, const struct function *f) {
    struct row *rows = pool_take(&d->module->pool, (f->register_count + 1) * sizeof *rows);
    struct registers *r = &d->registers;
    for (size_t i = 0; i < f->register_count; i++) {
        uint8_t bytes = (uint8_t)type_bytes(f->registers[i].type);
        r->bytes = pool_grow(&d->module->pool, r->bytes, r->count, sizeof *r->bytes);
        rows[i] = (struct row){.offset = r->count, .base = BASE_REGISTERS, .bytes = bytes};
        r->bytes[r->count++] = bytes;
    }
    return rows;
}

static void decode_function_body(struct decoder *d, const struct function *f) {
    uint32_t *starts = pool_take(&d->module->pool, (f->statement_count + 1) * sizeof *starts);
    d->function = f;
    d->rows = decode_registers(d, f);
    d->local_base = d->kernel->local_bytes;
    d->kernel->local_bytes += (f->local_bytes + 15) / 16 * 16;
    d->jumps = NULL;
    d->jump_count = 0;
    for (size_t i = 0; i < f->statement_count; i++) {
        starts[i] = d->kernel->code_count;
        d->statement = &f->statements[i];
        decode_statement(d);
    }
    starts[f->statement_count] = d->kernel->code_count;
    for (size_t i = 0; i < d->jump_count; i++) {
        uint32_t target = starts[d->jumps[i].statement];
        if (d->jumps[i].place)
            *d->jumps[i].place = target;
        else
            d->kernel->code[d->jumps[i].instruction].target = target;
    }
}

static void decode_finish(struct decoder *d) {
    d->statement = NULL;
    decode_new(d); /* whoever runs off the end returns */
    d->in->opcode = "ret";
    d->in->line = (uint32_t)d->function->line;
    control_end(d->in);
}

/* Parameters and results lie in the caller's and the callee's stacks: copied by byte. */
static void decode_call_copy(struct decoder *d, uint32_t to, uint32_t from, uint32_t bytes) {
    decode_new(d);
    access_copy_stack(d->in, to, from, bytes);
}

static void decode_call_group(struct decoder *d, const struct operand *group,
                              const struct variable *formal, size_t count, uint32_t callee,
                              bool results) {
    if ((group ? group->part_count : 0) != count) decode_fail(d, "the wrong number of parameters");
    for (size_t i = 0; i < count; i++) {
        const struct operand *o = &group->parts[i];
        if (o->kind != OPERAND_SYMBOL || o->variable->space != SPACE_CALL)
            decode_fail(d, "a call's parameters must be .param variables");
        if (o->variable->size != formal[i].size) decode_fail(d, "a parameter of another size");
        uint32_t here = (uint32_t)decode_symbol(d, o), there = callee + (uint32_t)formal[i].offset;
        decode_call_copy(d, results ? here : there, results ? there : here,
                         (uint32_t)formal[i].size);
    }
}

/* call (results), function, (parameters). The function's code stands here from now on. */
void decode_call(struct decoder *d) {
    (void)decode_take(d, "uni");
    const struct operand *o[3] = {0};
    size_t n = 0, first = d->statement->operands[0].kind == OPERAND_GROUP ? 0 : 1;
    for (size_t i = 0; i < d->statement->operand_count && first + n < 3; i++, n++)
        o[first + n] = &d->statement->operands[i];
    if (!o[1] || o[1]->kind != OPERAND_FUNCTION) decode_fail(d, "only a .func can be called");
    const struct function *f = o[1]->function;
    if (strcmp(f->name, "__assertfail") == 0 && o[2] && o[2]->part_count >= 3) {
        control_assertion(d->in, (uint32_t)decode_symbol(d, &o[2]->parts[0]),
                          (uint32_t)decode_symbol(d, &o[2]->parts[2]));
        return;
    }
    if (!f->has_body) decode_fail(d, "function '%s' has no body", f->name);
    if (d->depth >= CALLS_DEEP_MAX) decode_fail(d, "'%s': calls nest too deep", f->name);
    if (d->statement->guard != NO_REGISTER) decode_fail(d, "a call under a guard is not known");
    uint32_t first_instruction = d->kernel->code_count;
    control_nothing(d->in);
    uint32_t callee = d->kernel->local_bytes;
    const struct function *function = d->function;
    const struct statement *statement = d->statement;
    const struct row *rows = d->rows;
    struct decoder_jump *jumps = d->jumps;
    size_t jump_count = d->jump_count;
    uint32_t local_base = d->local_base;
    decode_call_group(d, o[2], f->params, f->param_count, callee, false);
    d->depth++;
    decode_function_body(d, f);
    uint32_t end = d->kernel->code_count;
    for (uint32_t i = first_instruction; i < end; i++) control_return_to(&d->kernel->code[i], end);
    d->function = function;
    d->statement = statement;
    d->rows = rows;
    d->local_base = local_base;
    d->jumps = jumps;
    d->jump_count = jump_count;
    d->depth--;
    decode_cut(d);
    memset(d->taken, 1, sizeof d->taken);
    decode_call_group(d, o[0], f->returns, f->return_count, callee, true);
}

static uint32_t align_up(uint32_t value, uint32_t align) {
    return (value + align - 1) / align * align;
}

/* The module's own shared variables come first, then those of its functions, then the kernel's:
 * nvcc moves a kernel's variable into the only function that uses it. */
static uint32_t shared_place(struct ptx_module *module) {
    uint32_t bytes = 0;
    for (size_t i = 0; i < module->variable_count; i++) {
        struct variable *v = module->variables[i];
        if (v->space != SPACE_SHARED || v->dynamic) continue;
        v->offset = align_up(bytes, v->align);
        v->common = true;
        bytes = (uint32_t)(v->offset + v->size);
    }
    for (struct function *f = module->functions; f; f = f->next) {
        if (f->entry || !f->shared_bytes) continue;
        f->shared_base = align_up(bytes, SHARED_ALIGN);
        bytes = f->shared_base + f->shared_bytes;
    }
    return align_up(bytes, SHARED_ALIGN);
}

static bool decode_kernel(struct ptx_module *module, struct function *f, struct ptx_error *error) {
    struct decoder *d = pool_take(&module->pool, sizeof *d);
    struct ptx_kernel *k = pool_take(&module->pool, sizeof *k);
    f->kernel = k;
    k->module = module;
    k->function = f;
    d->module = module;
    d->kernel = k;
    d->error = error;
    d->function = f;
    if (setjmp(d->escape)) return false;
    f->shared_base = shared_place(module);
    k->shared_bytes = align_up(f->shared_base + f->shared_bytes, 16);
    decode_function_body(d, f);
    decode_finish(d);
    registers_place(k, &module->pool, &d->registers);
    struct ptx_param *params = pool_take(&module->pool, (f->param_count + 1) * sizeof *params);
    for (size_t i = 0; i < f->param_count; i++)
        params[i] = (struct ptx_param){.offset = (uint32_t)f->params[i].offset,
                                       .size = (uint32_t)f->params[i].size,
                                       .align = f->params[i].align};
    k->facts = (struct ptx_kernel_facts){.name = f->name,
                                         .params = params,
                                         .param_count = f->param_count,
                                         .param_bytes = f->param_bytes,
                                         .shared_bytes = k->shared_bytes,
                                         .local_bytes = k->local_bytes,
                                         .max_threads = f->max_threads,
                                         .min_blocks = f->min_blocks,
                                         .instruction_count = k->code_count};
    memcpy(k->facts.required, f->required, sizeof f->required);
    return true;
}

bool decode_module(struct ptx_module *module, struct ptx_error *error) {
    for (struct function *f = module->functions; f; f = f->next) {
        if (!f->entry || !f->has_body) continue;
        if (!decode_kernel(module, f, error)) return false;
        module->kernels = pool_grow(&module->pool, module->kernels, module->kernel_count,
                                    sizeof *module->kernels);
        module->kernels[module->kernel_count++] = f->kernel;
    }
    return true;
}
