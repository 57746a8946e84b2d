# images.mk: the appliance's image, disk and kernel, and a virtual machine that runs them. Included
# by the Makefile.

# Which kernel: debian (its cloud kernel), own (make kernel), host (the running machine's).
KERNEL ?= $(if $(filter host,$(NVIDIA)),host,debian)
# A folder with an unpacked NVIDIA driver, or host; empty: no driver in the image.
NVIDIA ?=
# no: the driver's libraries only, without kernel modules and firmware.
NVIDIA_MODULES ?= yes
# A file with the key for TCP, which becomes /wick.key of the image (APPEND=wick.key=/wick.key); empty: none.
KEY    ?=
# More of the kernel command line, wick.key=value ...: boot, disk.
APPEND ?=

IMAGE := $(BUILD)/image/$(KERNEL)$(if $(NVIDIA),-nvidia)
images_env = BUILD='$(BUILD)' KERNEL='$(KERNEL)' NVIDIA='$(NVIDIA)' \
             NVIDIA_MODULES='$(NVIDIA_MODULES)' KEY='$(KEY)' APPEND='$(APPEND)' OUT='$(IMAGE)'

.PHONY: image disk kernel boot hello-image deps-image deps-boot deps-kernel

image: deps-image ## the appliance's kernel and initramfs (KERNEL=debian|own, NVIDIA=DIR|host)
	$(Q)$(parallel) $(BUILD)/wick
	$(Q)$(images_env) images/image.sh

disk: deps-boot image ## a bootable disk (UEFI) that holds the appliance and MODEL=
	$(Q)$(images_env) MODEL='$(MODEL)' images/disk.sh

kernel: deps-kernel ## compile the appliance's own small kernel (once; 10 minutes and more)
	$(Q)BUILD='$(BUILD)' images/kernel.sh

boot: deps-boot image ## start the appliance in a virtual machine and talk to it (MODEL=, APPEND=)
	@echo "  The lines below are the protocol's, on hvc0. Type for instance:"
	@echo "    HEALTH"
	@echo "    GEN 1 max_tokens=40 \"Once upon a time\""
	@echo "    SHUTDOWN            powers off; so does Ctrl-A X, at once"
	@echo "  The log: $(BUILD)/image/console.log. The same over TCP: wickctl --key $(BUILD)/qemu.key"
	$(Q)$(images_env) images/qemu.sh --kernel '$(notdir $(IMAGE))' --model '$(MODEL)' \
	    $(if $(APPEND),--append '$(APPEND)')

# An image whose init says READY and powers off, to measure wick against.
hello-image: deps-image $(BUILD)/hello
	$(Q)BUILD='$(BUILD)' KERNEL='$(KERNEL)' INIT='$(BUILD)/hello' OUT='$(BUILD)/image/hello-$(KERNEL)' \
	    images/image.sh

$(BUILD)/hello: $(BUILD)/obj/musl/images/hello.o
	$(call say,LD,$@)
	$(Q)$(MUSL_CC) $(LDFLAGS_MUSL) $^ -o $@

deps-image: ; $(Q)tests/deps.sh build image
deps-boot: deps-image ; $(Q)tests/deps.sh boot
deps-kernel: ; $(Q)tests/deps.sh build kernel
