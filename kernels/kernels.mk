# Kernels for the GPU: CUDA C here, PTX beside it (committed: building wick needs no CUDA), embedded
# as text. A module is kernels/NAME.cu -> kernels/NAME.ptx.

NVCC  ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc) nvcc)
PTXAS ?= $(firstword $(shell command -v ptxas) $(wildcard /usr/local/cuda/bin/ptxas) ptxas)

PTX_NAMES := $(sort $(basename $(notdir $(wildcard kernels/*.cu))))
PTX_FILES := $(PTX_NAMES:%=kernels/%.ptx)

# No a * b + c is contracted: a fused multiply-add is written where it is meant, as on the CPU.
NVCC_FLAGS := -ptx -arch=compute_80 -std=c++17 -fmad=false
# What the compiler says about itself goes, so that the text depends on the source alone, and a hint
# that wants a newer .version; then 7.0, of drivers from 450 on, says everything.
PTX_VERSION := 7.0
PTX_CLEAN   := sed -E -e 's,[[:space:]]*//.*$$,,' -e '/^\.pragma "used_bytes_mask|^[[:space:]]*\.pragma "used_bytes/d' \
               -e 's/^\.version .*/.version $(PTX_VERSION)/' -e 's/^[[:space:]]+//' \
               -e 's/[[:space:]]+/ /g' -e '/^[[:space:]]*$$/d'

ptx_remade = $(BUILD)/kernels/$(1).ptx

$(BUILD)/kernels/%.ptx: kernels/%.cu $(wildcard kernels/*.cuh kernels/*.h) kernels/kernels.mk
	$(call say,NVCC,$<)
	@mkdir -p $(@D)
	$(Q)$(NVCC) $(NVCC_FLAGS) $< -o $@.raw
	$(Q)$(PTX_CLEAN) $@.raw >$@

.PHONY: ptx ptx-remade ptx-assembled ptx-check ptx-sample
ptx: ptx-remade ## remake kernels/*.ptx (needs nvcc), assemble for every GPU, note what they were made from
	$(Q)for name in $(PTX_NAMES); do \
	    cmp -s $(BUILD)/kernels/$$name.ptx kernels/$$name.ptx || \
	        cp $(BUILD)/kernels/$$name.ptx kernels/$$name.ptx; \
	done
	+$(Q)$(parallel) ptx-assembled
	$(Q)NVCC=$(NVCC) kernels/check.sh sums '$(NVCC_FLAGS) $(PTX_VERSION)' >kernels/ptx.sum
ptx-remade: $(PTX_NAMES:%=$(BUILD)/kernels/%.ptx)
ptx-assembled: $(PTX_NAMES:%=$(BUILD)/kernels/%.table)

ptx-check: ## compare kernels/*.ptx with what nvcc makes; assemble for every GPU, no spills (needs nvcc)
	+$(Q)$(parallel) ptx-remade ptx-assembled
	$(Q)kernels/check.sh sums_check
	$(Q)kernels/check.sh table_check docs/GPU.md $(PTX_NAMES:%=$(BUILD)/kernels/%.table)

# All that for one module, another one every day: 7 s of a processor instead of 140.
PTX_SAMPLE := $(shell set -- $(PTX_NAMES); shift $$(($$(date +%s) / 86400 % $$#)); echo $$1)
ptx-sample: $(BUILD)/kernels/$(PTX_SAMPLE).table
	@echo $(PTX_SAMPLE)

# Registers and shared memory of a module's kernels on every GPU we name; fails on a spill.
PTX_GPUS := 80 86 89 90 100 120
$(BUILD)/kernels/%.table: kernels/%.ptx $(BUILD)/kernels/%.ptx kernels/check.sh
	$(call say,PTXAS,$<)
	$(Q)cmp $< $(BUILD)/kernels/$*.ptx || { echo "$< is not what nvcc makes; run: make ptx"; exit 1; }
	$(Q)PTXAS=$(PTXAS) kernels/check.sh assemble $< $(PTX_GPUS) >$@

# --- in the binary -------------------------------------------------------------------------------

# Every module as text that ends with a zero byte, and a table of offsets from itself (src/cuda/
# modules.h): nothing to relocate.
PTX_INCLUDED := $(BUILD)/obj/kernels/modules.inc
$(PTX_INCLUDED): kernels/kernels.mk $(wildcard kernels) $(PTX_FILES)
	@mkdir -p $(@D)
	$(Q){ for name in $(PTX_NAMES); do \
	    echo ".long name_$$name - ptx_modules, text_$$name - ptx_modules, end_$$name - text_$$name"; \
	done; echo "ptx_modules_end:"; for name in $(PTX_NAMES); do \
	    echo "name_$$name: .asciz \"$$name\""; \
	    echo "text_$$name: .incbin \"kernels/$$name.ptx\""; \
	    echo "end_$$name: .byte 0"; \
	done; } >$@

PTX_OBJECTS := $(patsubst %,$(BUILD)/obj/%/src/cuda/modules.o,musl debug fuzz)
$(PTX_OBJECTS): $(PTX_INCLUDED)
$(PTX_OBJECTS): private FILE_FLAGS := -Wa,-I$(dir $(PTX_INCLUDED))

# --- tests ---------------------------------------------------------------------------------------

# Programs of glibc that load a driver (the stand-in, or a GPU's) as anyone would. Parts of wick that
# they compare with are compiled anew: no sanitizer, -O2.
KERNEL_TESTS   := $(patsubst tests/kernels/%.c,%,$(wildcard tests/kernels/test_*.c))
KERNEL_TEST_IN := $(filter-out $(KERNEL_TESTS:%=tests/kernels/%.c),$(wildcard tests/kernels/*.c)) \
                  tests/unit/block_rig.c src/cuda/repack.c src/model/pack.c \
                  $(wildcard src/gguf/quant*.c) src/cpu/kernels_avx2.c src/cpu/kv_layout.c \
                  src/base/panic.c src/base/log.c src/base/clock.c
kernel_test_objects = $(patsubst %.c,$(BUILD)/obj/kernels/%.o,$(1))

.PRECIOUS: $(BUILD)/obj/kernels/%.o
$(BUILD)/obj/kernels/%.o: %.c Makefile kernels/kernels.mk
	$(call say,CC-TEST,$<)
	@mkdir -p $(@D)
	$(Q)$(GNU_CC) $(CFLAGS_ALL) -O2 -g $(call named_flags,$<) -c $< -o $@

$(BUILD)/kernels/test_%: $(BUILD)/obj/kernels/tests/kernels/test_%.o \
                         $(call kernel_test_objects,$(KERNEL_TEST_IN))
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(GNU_CC) -pthread -o $@ $^ -ldl $(LDLIBS)

KERNEL_PROGRAMS := $(KERNEL_TESTS:%=$(BUILD)/kernels/%)
