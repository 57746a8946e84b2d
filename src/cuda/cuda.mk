# The CUDA room: the helper that glibc's loader starts, and flags of its own.

HELPER := $(BUILD)/obj/helper
# No standard library, no start files, no unwinding: the helper is a few kilobytes that call four
# functions. The libraries it is linked against have the right names and nothing else.
CFLAGS_HELPER := -std=c11 -Wall -Wextra -Wconversion -Werror -Isrc -Os -fPIC -ffreestanding \
                 -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none \
                 -ffile-prefix-map=$(CURDIR)=.
LDFLAGS_HELPER := -nostdlib -nostartfiles -Wl,--build-id=none -Wl,-z,noseparate-code \
                  -Wl,-z,norelro -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,max-page-size=4096 -s

$(HELPER)/libc.so.6: CFLAGS_STUB := -x c /dev/null
$(HELPER)/libdl.so.2: CFLAGS_STUB := src/cuda/helper/stub.c
$(HELPER)/libc.so.6 $(HELPER)/libdl.so.2: src/cuda/helper/stub.c src/cuda/cuda.mk
	@mkdir -p $(@D)
	$(Q)$(GNU_CC) -fPIC -shared -ffreestanding $(LDFLAGS_HELPER) -Wl,-soname,$(@F) $(CFLAGS_STUB) -o $@

$(HELPER)/helper.elf: src/cuda/helper/helper.c src/cuda/helper/handover.h src/cuda/cuda.mk \
                      $(HELPER)/libdl.so.2 $(HELPER)/libc.so.6
	$(call say,HELPER,$@)
	$(Q)$(GNU_CC) $(CFLAGS_HELPER) -pie $(LDFLAGS_HELPER) -Wl,--no-as-needed \
	    -Wl,--dynamic-linker=/lib64/ld-linux-x86-64.so.2 $< $(filter %.2 %.6,$^) -o $@

HELPER_IMAGE := $(patsubst %,$(BUILD)/obj/%/src/cuda/helper_image.o,musl debug fuzz)
$(HELPER_IMAGE): $(HELPER)/helper.elf
$(HELPER_IMAGE): private FILE_FLAGS := -Wa,-I$(HELPER)
