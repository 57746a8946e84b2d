#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"
#include "tiny_model.h"

static struct tiny_model tiny;

static void bind_or_fail(void) {
    struct fault fault = {0};
    cr_assert(tiny_bind(&tiny, &fault), "%s", fault.text);
}

Test(model, binds_the_geometry_of_a_llama_file) {
    tiny_init(&tiny, &tiny_llama);
    bind_or_fail();
    const struct model_geometry *geo = &tiny.model.geo;
    cr_expect_str_eq(geo->name, "tiny");
    cr_expect_str_eq(geo->architecture, "llama");
    cr_expect_str_eq(geo->quantisation, "F32");
    cr_expect_eq(geo->n_layers, 2);
    cr_expect_eq(geo->dim, 32);
    cr_expect_eq(geo->ffn, 48);
    cr_expect_eq(geo->n_heads, 4);
    cr_expect_eq(geo->n_kv_heads, 2);
    cr_expect_eq(geo->head_dim, 8);
    cr_expect_eq(geo->vocab, 64);
    cr_expect_eq(geo->ctx_train, 128);
    cr_expect_eq(geo->rope_dim, 8);
    cr_expect_eq(geo->rope_pairs, ROPE_NORM);
    cr_expect_eq(geo->rope_base, 10000.0F);
    cr_expect_eq(geo->rope_scale, 1.0F);
    cr_expect_eq(geo->norm_eps, 1e-5F);
    cr_expect(!geo->qkv_bias);
    cr_expect(!geo->tied);
    const struct model_layer *layer = &tiny.model.layer[1];
    cr_expect_eq(layer->down.cols, 48);
    cr_expect_eq(layer->down.rows, 32);
    cr_expect_eq(layer->attn_out.cols, 32);
    cr_expect_eq(layer->k.rows, 16);
    cr_expect_null(layer->q_bias.data);
    cr_expect_null(tiny.model.rope_freqs.data);
}

Test(model, binds_qwen2_with_biases_and_halves_as_pairs) {
    struct tiny_shape shape = tiny_llama;
    shape.architecture = "qwen2";
    shape.bias = true;
    tiny_init(&tiny, &shape);
    bind_or_fail();
    cr_expect_eq(tiny.model.geo.rope_pairs, ROPE_NEOX);
    cr_expect(tiny.model.geo.qkv_bias);
    cr_expect_eq(tiny.model.layer[1].k_bias.cols, 16);
    cr_expect_not_null(tiny.model.layer[1].v_bias.data);
}

Test(model, accepts_llama_with_all_three_biases) {
    struct tiny_shape shape = tiny_llama;
    shape.bias = true;
    tiny_init(&tiny, &shape);
    bind_or_fail();
    cr_expect(tiny.model.geo.qkv_bias);
    cr_expect_eq(tiny.model.geo.rope_pairs, ROPE_NORM);
}

Test(model, ties_the_output_to_the_embedding_when_there_is_none) {
    struct tiny_shape shape = tiny_llama;
    shape.tied = true;
    tiny_init(&tiny, &shape);
    bind_or_fail();
    cr_expect(tiny.model.geo.tied);
    cr_expect_eq(tiny.model.output.data, tiny.model.token_embd.data);
}

Test(model, fills_absent_keys_with_their_defaults) {
    tiny_init(&tiny, &tiny_llama);
    tiny_remove(&tiny, "llama.attention.key_length");
    tiny_remove(&tiny, "llama.attention.value_length");
    tiny_remove(&tiny, "general.name");
    bind_or_fail();
    cr_expect_eq(tiny.model.geo.head_dim, 8, "dim / heads");
    cr_expect_str_eq(tiny.model.geo.name, "llama");

    struct tiny_shape multi_head = tiny_llama;
    multi_head.kv_heads = multi_head.heads;
    tiny_init(&tiny, &multi_head);
    tiny_remove(&tiny, "llama.attention.head_count_kv");
    bind_or_fail();
    cr_expect_eq(tiny.model.geo.n_kv_heads, 4);
}

Test(model, takes_head_dim_from_key_length_when_it_is_not_dim_over_heads) {
    struct tiny_shape wide = tiny_llama;
    wide.head_dim = 16;
    tiny_init(&tiny, &wide);
    bind_or_fail();
    cr_expect_eq(tiny.model.geo.head_dim, 16);
    cr_expect_eq(tiny.model.layer[0].q.rows, 64);
    cr_expect_eq(tiny.model.layer[0].attn_out.cols, 64);
}

Test(model, makes_a_smaller_sliding_window_the_context) {
    tiny_init(&tiny, &tiny_llama);
    tiny_set_u32(&tiny, "llama.attention.sliding_window", 40);
    bind_or_fail();
    cr_expect_eq(tiny.model.geo.ctx_train, 40);
    tiny_set_u32(&tiny, "llama.attention.sliding_window", 4096);
    bind_or_fail();
    cr_expect_eq(tiny.model.geo.ctx_train, 128);
}

Test(model, accepts_an_embedding_padded_beyond_the_tokens) {
    tiny_init(&tiny, &tiny_llama);
    tiny_tensor(&tiny, "token_embd.weight", QUANT_F32, 32, 80);
    tiny_tensor(&tiny, "output.weight", QUANT_F32, 32, 80);
    bind_or_fail();
    cr_expect_eq(tiny.model.geo.vocab, 80);
}

Test(model, names_the_type_of_most_bytes) {
    tiny_init(&tiny, &tiny_llama);
    tiny_tensor(&tiny, "token_embd.weight", QUANT_F16, 32, 64);
    tiny_tensor(&tiny, "output.weight", QUANT_Q8_0, 32, 64);
    for (uint32_t i = 0; i < tiny.n_tensors; i++)
        if (tiny.tensor[i].n_dims == 2 && tiny.tensor[i].dims[0] == 32)
            tiny.tensor[i].type = QUANT_Q4_0;
    tiny_tensor(&tiny, "blk.0.ffn_down.weight", QUANT_F16, 48, 32);
    tiny_tensor(&tiny, "blk.1.ffn_down.weight", QUANT_F16, 48, 32);
    bind_or_fail();
    cr_expect_str_eq(tiny.model.geo.quantisation, "Q4_0");
}

Test(model, makes_a_name_safe_to_print) {
    tiny_init(&tiny, &tiny_llama);
    tiny_set_text(&tiny, "general.name",
                  "a\nb\tc\x7f"
                  "d");
    bind_or_fail();
    cr_expect_str_eq(tiny.model.geo.name, "a b c d");
}

Test(model, rope_frequencies_follow_base_scale_and_factors) {
    double frequency[MODEL_HEAD_DIM_MAX / 2];
    tiny_init(&tiny, &tiny_llama);
    tiny_set_f32(&tiny, "llama.rope.freq_base", 500000.0F);
    bind_or_fail();
    model_rope_frequencies(&tiny.model, frequency);
    for (int i = 0; i < 4; i++)
        cr_expect_float_eq(frequency[i], pow(500000.0, -2.0 * i / 8.0), 1e-15);

    tiny_set_text(&tiny, "llama.rope.scaling.type", "linear");
    tiny_set_f32(&tiny, "llama.rope.scaling.factor", 4.0F);
    bind_or_fail();
    model_rope_frequencies(&tiny.model, frequency);
    cr_expect_float_eq(frequency[1], pow(500000.0, -0.25) / 4.0, 1e-15);

    tiny_init(&tiny, &tiny_llama);
    tiny_set_f32(&tiny, "llama.rope.scale_linear", 2.0F);
    tiny_tensor(&tiny, "rope_freqs.weight", QUANT_F32, 4, 0);
    bind_or_fail();
    float factor[4];
    memcpy(factor, tiny.model.rope_freqs.data, sizeof factor);
    model_rope_frequencies(&tiny.model, frequency);
    for (int i = 0; i < 4; i++)
        cr_expect_float_eq(frequency[i], pow(10000.0, -0.25 * i) / 2.0 / (double)factor[i], 1e-15);
}

/* Each row breaks one thing; the fault must be MODEL_LOAD_FAILED and name it. */
static void zero_heads(void) {
    tiny_set_u32(&tiny, "llama.attention.head_count", 0);
}
static void kv_heads_not_dividing(void) {
    tiny_set_u32(&tiny, "llama.attention.head_count_kv", 3);
}
static void kv_heads_zero(void) {
    tiny_set_u32(&tiny, "llama.attention.head_count_kv", 0);
}
static void kv_heads_over(void) {
    tiny_set_u32(&tiny, "llama.attention.head_count_kv", 8);
}
static void dim_zero(void) {
    tiny_set_u32(&tiny, "llama.embedding_length", 0);
}
static void dim_huge(void) {
    tiny_set_u32(&tiny, "llama.embedding_length", 0xFFFFFFFF);
}
static void dim_other(void) {
    tiny_set_u32(&tiny, "llama.embedding_length", 64);
}
static void ffn_missing(void) {
    tiny_remove(&tiny, "llama.feed_forward_length");
}
static void ffn_text(void) {
    tiny_set_text(&tiny, "llama.feed_forward_length", "48");
}
static void ctx_zero(void) {
    tiny_set_u32(&tiny, "llama.context_length", 0);
}
static void layers_zero(void) {
    tiny_set_u32(&tiny, "llama.block_count", 0);
}
static void layers_beyond(void) {
    tiny_set_u32(&tiny, "llama.block_count", 3);
}
static void layers_fewer(void) {
    tiny_set_u32(&tiny, "llama.block_count", 1);
}
static void layers_huge(void) {
    tiny_set_u32(&tiny, "llama.block_count", 0x7FFFFFFF);
}
static void rope_odd(void) {
    tiny_set_u32(&tiny, "llama.rope.dimension_count", 7);
}
static void rope_over(void) {
    tiny_set_u32(&tiny, "llama.rope.dimension_count", 10);
}
static void rope_base_nan(void) {
    tiny_set_f32(&tiny, "llama.rope.freq_base", NAN);
}
static void rope_base_negative(void) {
    tiny_set_f32(&tiny, "llama.rope.freq_base", -1.0F);
}
static void rope_yarn(void) {
    tiny_set_text(&tiny, "llama.rope.scaling.type", "yarn");
}
static void rope_no_factor(void) {
    tiny_set_text(&tiny, "llama.rope.scaling.type", "linear");
}
static void rope_factor_zero(void) {
    tiny_set_text(&tiny, "llama.rope.scaling.type", "linear");
    tiny_set_f32(&tiny, "llama.rope.scaling.factor", 0.0F);
}
static void eps_missing(void) {
    tiny_remove(&tiny, "llama.attention.layer_norm_rms_epsilon");
}
static void eps_zero(void) {
    tiny_set_f32(&tiny, "llama.attention.layer_norm_rms_epsilon", 0.0F);
}
static void eps_infinite(void) {
    tiny_set_f32(&tiny, "llama.attention.layer_norm_rms_epsilon", INFINITY);
}
static void value_length(void) {
    tiny_set_u32(&tiny, "llama.attention.value_length", 16);
}
static void no_split(void) {
    tiny_remove(&tiny, "llama.attention.key_length");
    tiny_set_u32(&tiny, "llama.attention.head_count", 3);
    tiny_set_u32(&tiny, "llama.attention.head_count_kv", 1);
}
static void experts(void) {
    tiny_set_u32(&tiny, "llama.expert_count", 8);
}
static void not_causal(void) {
    tiny_set_bool(&tiny, "llama.attention.causal", false);
}
static void logit_scale(void) {
    tiny_set_f32(&tiny, "llama.logit_scale", 0.5F);
}
static void architecture(void) {
    tiny_set_text(&tiny, "general.architecture", "gemma3");
}
static void no_architecture(void) {
    tiny_remove(&tiny, "general.architecture");
}
static void no_tensors(void) {
    tiny.n_tensors = 0;
}
static void no_embedding(void) {
    tiny_remove_tensor(&tiny, "token_embd.weight");
}
static void small_embedding(void) {
    tiny_tensor(&tiny, "token_embd.weight", QUANT_F32, 32, 63);
}
static void small_output(void) {
    tiny_tensor(&tiny, "output.weight", QUANT_F32, 32, 63);
}
static void turned(void) {
    tiny_tensor(&tiny, "blk.1.ffn_down.weight", QUANT_F32, 32, 48);
}
static void no_norm(void) {
    tiny_remove_tensor(&tiny, "blk.1.attn_norm.weight");
}
static void half_norm(void) {
    tiny_tensor(&tiny, "blk.0.ffn_norm.weight", QUANT_F16, 32, 0);
}
static void wide_norm(void) {
    tiny_tensor(&tiny, "output_norm.weight", QUANT_F32, 32, 2);
}
static void one_bias(void) {
    tiny_tensor(&tiny, "blk.0.attn_q.bias", QUANT_F32, 32, 0);
}
static void expert_tensor(void) {
    tiny_tensor(&tiny, "blk.0.ffn_gate_exps.weight", QUANT_F32, 32, 48);
}
static void q_norm(void) {
    tiny_tensor(&tiny, "blk.0.attn_q_norm.weight", QUANT_F32, 8, 0);
}
static void out_bias(void) {
    tiny_tensor(&tiny, "blk.0.attn_output.bias", QUANT_F32, 32, 0);
}
static void stranger(void) {
    tiny_tensor(&tiny, "mystery.weight", QUANT_F32, 32, 0);
}
static void layer_spelled(void) {
    tiny_tensor(&tiny, "blk.01.attn_norm.weight", QUANT_F32, 32, 0);
}
static void freqs_long(void) {
    tiny_tensor(&tiny, "rope_freqs.weight", QUANT_F32, 8, 0);
}

static const struct refusal {
    const char *what;
    void (*break_it)(void);
    const char *text; /* must be in the message */
} refusals[] = {
    {"zero heads", zero_heads, "llama.attention.head_count is 0"},
    {"kv heads not dividing", kv_heads_not_dividing, "does not divide head_count 4"},
    {"zero kv heads", kv_heads_zero, "llama.attention.head_count_kv is 0"},
    {"more kv heads than heads", kv_heads_over, "llama.attention.head_count_kv is 8"},
    {"dim 0", dim_zero, "llama.embedding_length is 0"},
    {"dim 2^32 - 1", dim_huge, "llama.embedding_length is 4294967295"},
    {"dim of another model", dim_other, "the geometry implies 64 x"},
    {"no ffn", ffn_missing, "llama.feed_forward_length is missing"},
    {"ffn is text", ffn_text, "llama.feed_forward_length"},
    {"ctx 0", ctx_zero, "llama.context_length is 0"},
    {"no layers", layers_zero, "llama.block_count is 0"},
    {"more layers than tensors", layers_beyond, "blk.2.attn_norm.weight is missing"},
    {"fewer layers than tensors", layers_fewer, "beyond block_count 1"},
    {"2^31 layers", layers_huge, "llama.block_count is 2147483647"},
    {"odd rope", rope_odd, "rope.dimension_count is 7"},
    {"rope wider than a head", rope_over, "rope.dimension_count is 10"},
    {"rope base NaN", rope_base_nan, "llama.rope.freq_base is"},
    {"rope base negative", rope_base_negative, "llama.rope.freq_base is -1"},
    {"yarn", rope_yarn, "'yarn' is not supported"},
    {"linear without factor", rope_no_factor, "llama.rope.scaling.factor is missing"},
    {"linear by 0", rope_factor_zero, "llama.rope.scaling.factor is 0"},
    {"no eps", eps_missing, "layer_norm_rms_epsilon is missing"},
    {"eps 0", eps_zero, "layer_norm_rms_epsilon is 0"},
    {"eps infinite", eps_infinite, "layer_norm_rms_epsilon is inf"},
    {"value length", value_length, "value_length is 16 and key_length 8"},
    {"heads do not split dim", no_split, "does not divide embedding_length 32"},
    {"experts", experts, "mixture of experts"},
    {"not causal", not_causal, "llama.attention.causal is 0"},
    {"logit scale", logit_scale, "scaled logits"},
    {"architecture", architecture, "architecture 'gemma3' is not supported"},
    {"no architecture", no_architecture, "general.architecture is missing"},
    {"vocabulary only", no_tensors, "vocabulary only"},
    {"no embedding", no_embedding, "token_embd.weight is missing"},
    {"fewer rows than tokens", small_embedding, "63 rows, but the tokenizer has 64 tokens"},
    {"output of another vocabulary", small_output, "output.weight is 32 x 63"},
    {"matrix turned", turned, "blk.1.ffn_down.weight is 32 x 48 x 1 x 1"},
    {"norm missing", no_norm, "blk.1.attn_norm.weight is missing"},
    {"norm in F16", half_norm, "blk.0.ffn_norm.weight has type F16"},
    {"norm with two rows", wide_norm, "output_norm.weight is 32 x 2"},
    {"one bias", one_bias, "layer 0 has 1 of the biases"},
    {"expert tensor", expert_tensor, "mixture of experts"},
    {"norm on q", q_norm, "norms on Q and K"},
    {"output bias", out_bias, "blk.0.attn_output.bias"},
    {"unknown tensor", stranger, "mystery.weight is not one of architecture 'llama'"},
    {"layer with a leading zero", layer_spelled, "blk.01.attn_norm.weight is not one of"},
    {"frequencies too long", freqs_long, "rope_freqs.weight is 8"},
};

Test(model, refuses_what_it_would_compute_wrongly) {
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct fault fault = {0};
        tiny_init(&tiny, &tiny_llama);
        refusals[i].break_it();
        cr_expect(!tiny_bind(&tiny, &fault), "%s: accepted", refusals[i].what);
        cr_expect_eq(fault.code, FAULT_MODEL_LOAD_FAILED, "%s: code %d", refusals[i].what,
                     fault.code);
        cr_expect(strstr(fault.text, refusals[i].text) != NULL, "%s: \"%s\" is not in \"%s\"",
                  refusals[i].what, refusals[i].text, fault.text);
    }
}

Test(model, refuses_qwen2_without_biases) {
    struct fault fault = {0};
    struct tiny_shape shape = tiny_llama;
    shape.architecture = "qwen2";
    tiny_init(&tiny, &shape);
    cr_expect(!tiny_bind(&tiny, &fault));
    cr_expect(strstr(fault.text, "needs all three") != NULL, "%s", fault.text);
}

Test(model, refuses_rope_frequencies_that_are_not_positive) {
    struct fault fault = {0};
    tiny_init(&tiny, &tiny_llama);
    tiny_tensor(&tiny, "rope_freqs.weight", QUANT_F32, 4, 0);
    bind_or_fail();
    const float bad = 0.0F;
    memcpy(tiny.bytes + (tiny.model.rope_freqs.data - tiny.bytes) + 8, &bad, sizeof bad);
    cr_expect(!model_bind(&tiny.model, &tiny.gguf, &fault));
    cr_expect(strstr(fault.text, "rope_freqs.weight[2]") != NULL, "%s", fault.text);
}
