# Fuzzing: src/*/NAME_fuzz.c is the entry for NAME, beside the code it tries.

FUZZ_SRC     := $(sort $(wildcard src/*/*_fuzz.c))
FUZZ_ENTRIES := $(patsubst %_fuzz,%,$(basename $(notdir $(FUZZ_SRC))))
fuzz_source   = $(filter %/$(1)_fuzz.c,$(FUZZ_SRC))

TIME ?= 60
FUZZ_CC      ?= clang
FUZZ_FLAGS   := -std=c11 -D_GNU_SOURCE $(INCLUDES) -g -O1 -w -ffp-contract=off
# No entry computes: the kernels are linked as they are, which saves minutes of compiling.
fuzz_watched  = $(if $(filter src/cpu/% src/cuda/%,$(1)),,-fsanitize=fuzzer-no-link,address,undefined \
                -fno-sanitize-recover=undefined)
fuzz_objects  = $(patsubst %.c,$(BUILD)/obj/fuzz/%.o,$(1))

.PHONY: fuzz
fuzz: deps-fuzz ## look for inputs that break: each entry for TIME= seconds [60], as many as processors at once
	$(Q)$(parallel) $(addprefix $(BUILD)/fuzz/,$(FUZZ_ENTRIES))
	$(Q)BUILD=$(BUILD) tests/fuzz/fuzz.sh $(TIME) $(FUZZ_ENTRIES)

$(BUILD)/obj/fuzz/%.o: %.c Makefile
	$(call say,CC-FUZZ,$<)
	@mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(FUZZ_FLAGS) -MMD -MP $(call fuzz_watched,$<) $(call named_flags,$<) \
	    $(FILE_FLAGS) -c $< -o $@
$(BUILD)/obj/fuzz/libwick.a: $(call fuzz_objects,$(LIB_SRC) $(BOOT_SRC))

# Entries are made with libFuzzer to look, and with the debug build's sanitizers to replay.
define fuzz_rules
$(BUILD)/fuzz/$(1): $(call fuzz_objects,$(call fuzz_source,$(1))) $(BUILD)/obj/fuzz/libwick.a
	$$(call say,LD,$$@)
	@mkdir -p $$(@D)
	$$(Q)$(FUZZ_CC) -fsanitize=fuzzer,address,undefined $$^ -lpthread $$(LDLIBS) -o $$@
$(BUILD)/fuzz/replay-$(1): $(call debug_objects,$(call fuzz_source,$(1)) tests/fuzz/replay.c) \
                           $(BUILD)/obj/debug/libwick.a
	$$(call say,LD,$$@)
	@mkdir -p $$(@D)
	$$(Q)$(GNU_CC) -fsanitize=address,undefined $$^ -lpthread $$(LDLIBS) -o $$@
endef
$(foreach entry,$(FUZZ_ENTRIES),$(eval $(call fuzz_rules,$(entry))))

.PHONY: fuzz-replay
fuzz-replay: $(addprefix $(BUILD)/fuzz/replay-,$(FUZZ_ENTRIES))

.PHONY: deps-fuzz
deps-fuzz: ; $(Q)tests/deps.sh build fuzz ## install what fuzzing needs
